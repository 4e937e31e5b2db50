"""Commands about results: `everything evaluate` and `everything report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from everything.cli.errors import errors_shown
from everything.cli.options import Json, Split

WROTE = "What [b]everything label[/b] wrote, also in a bucket."
Folders = Annotated[list[str], typer.Argument(metavar="LABELS", help=WROTE)]
Truth = Annotated[
    Path,
    typer.Option(
        "--truth",
        metavar="T",
        help="A COCO or LVIS file, a folder of SA-1B JSON, of label maps, or a data pack.",
    ),
]


def evaluate(
    truth: Truth,
    labels: Annotated[str | None, typer.Argument(metavar="LABELS", help=WROTE)] = None,
    split: Split = None,
    boundaries: Annotated[bool, typer.Option(help="Also the boundary F: seconds a photo.")] = True,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Instead, how a model answers clicks and boxes.")
    ] = False,
    variant: Annotated[str | None, typer.Option(help="The model, with --prompts.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Its weights.")] = None,
    photos: Annotated[
        Path | None, typer.Option(help="With --prompts: where they are, if not beside the truth.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --prompts: only the first so many photos.")
    ] = None,
    min_area: Annotated[
        int,
        typer.Option(
            min=1, help="px of a segment that counts, of label maps; of all with --prompts."
        ),
    ] = 100,
    as_json: Json = False,
) -> None:
    """Score masks against truth: average recall, covering, boundaries; or a model's answers."""
    with errors_shown():
        from everything.errors import InputError
        from everything.jobs.progress import counted

        if prompts == (labels is not None):
            raise InputError("give a folder of labels, or --prompts and a --variant")
        result: Any
        with counted("photos", Console(stderr=True)) as told:
            if labels is not None:
                from everything.evaluation.mask_scores import evaluate as score
                from everything.io.storage.locations import located

                result = score(
                    located(labels), truth, split,
                    min_area=min_area, boundaries=boundaries, progress=told,
                )  # fmt: skip
            else:
                from everything.evaluation.prompt_scores import evaluate_prompts
                from everything.recipes.build import load

                result = evaluate_prompts(
                    load(variant, checkpoint=checkpoint), truth, split,
                    min_area=min_area, limit=limit, photos=photos, progress=told,
                )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2))
    else:
        Console().print(result.table(), highlight=False)


def report(
    labels: Folders,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="LABELS/report if not given.")
    ] = None,
    photos: Annotated[str | None, typer.Option(help="Where the photos are, if moved.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Also a picture of each photo with its masks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a page to look at results, or several side by side; it opens from disk."""
    with errors_shown():
        from everything.io.storage.locations import located
        from everything.jobs.progress import counted
        from everything.report.build import REPORT, write_report

        folders, home = [located(folder) for folder in labels], located(photos) if photos else None
        console = Console(stderr=True)
        with counted("photos", console) as told:
            page = write_report(folders, out, photos=home, limit=limit, progress=told)
        if overlays:
            from everything.report.overlay import write_overlays

            for folder in folders:
                place = None if isinstance(folder, Path) else out
                with counted("overlays", console) as told:
                    write_overlays(folder, place, home, told)
    if as_json:
        tables = json.loads(page.with_name(REPORT).read_bytes())
        typer.echo(json.dumps({"page": str(page)} | tables, indent=2))
    else:
        typer.echo(page)
