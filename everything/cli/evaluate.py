"""`everything evaluate` and `everything report`: how good the results are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from everything.cli import completion
from everything.cli.messages import Messages, ScoreMessages, loading
from everything.cli.option_groups import with_option_groups
from everything.cli.options import GROUND_TRUTH, Json, Masks, Split
from everything.jobs.command_errors import exit_on_error

LABELS_HELP = "Results folder of `everything label`, or its bucket URL."
Folders = Annotated[list[str], typer.Argument(metavar="LABELS", help=LABELS_HELP)]
GroundTruth = Annotated[
    Path,
    typer.Option(
        "--truth",
        metavar="T",
        help=f"Ground truth: {GROUND_TRUTH}.",
    ),
]


@with_option_groups
def evaluate(
    truth: GroundTruth,
    masks: Masks,
    messages: ScoreMessages,
    labels: Annotated[str | None, typer.Argument(metavar="LABELS", help=LABELS_HELP)] = None,
    split: Split = None,
    boundaries: Annotated[
        bool,
        typer.Option(help="Also compute the boundary F-measure; takes seconds per image and core."),
    ] = True,
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts",
            help="Instead of LABELS, score a model's masks for click and box prompts.",
            show_default="off",
        ),
    ] = False,
    variant: Annotated[
        str | None,
        typer.Option(
            help="With --prompts: the model.",
            show_default="ucm-lite0",
            autocompletion=completion.variants,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="With --prompts: weights for the variant.",
            show_default="the variant's official weights",
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="With --prompts: folder of the images.", show_default="beside the ground truth"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --prompts: use only the first N images.", show_default="all"
        ),
    ] = None,
    min_area: Annotated[
        int,
        typer.Option(
            min=1,
            help="Ignore ground-truth segments smaller than this (px). Applies to label maps; "
            "with --prompts to every format.",
        ),
    ] = 100,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes for the boundary F-measure.", show_default="one per core"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score masks against ground truth: average recall, covering and boundary F-measure.

    With --prompts, score a model on single prompts instead: mean IoU per kind of prompt.
    """
    with exit_on_error():
        from everything.core.console import spinner
        from everything.errors import InputError
        from everything.jobs.progress import show_count

        if prompts == (labels is not None):
            raise InputError("give a results folder, or --prompts and a --variant")
        keep = masks.filter()
        if prompts and not keep.keeps_all:
            raise InputError("options for which masks count need a results folder, not --prompts")
        result: Any
        console = messages.console()
        if labels is not None:
            with loading(console):
                from everything.core.threads import usable_cores
                from everything.evaluation.mask_scores import evaluate as score
                from everything.io.storage.locations import located

            with show_count("images", console) as show:
                result = score(
                    located(labels), truth, split,
                    min_area=min_area, boundaries=boundaries, progress=show,
                    workers=workers or usable_cores(), keep=keep,
                )  # fmt: skip
        else:
            with loading(console):
                from everything.evaluation.prompt_scores import evaluate_prompts
                from everything.recipes.build import load

            with spinner("loading the model", console):
                pipeline = load(variant, checkpoint=checkpoint)
            with show_count("images", console) as show:
                result = evaluate_prompts(
                    pipeline, truth, split,
                    min_area=min_area, limit=limit, photos=photos, progress=show,
                )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2))
    else:
        Console().print(result.table(), highlight=False)
    raise typer.Exit(3 if getattr(result, "unreadable", ()) else 0)


@with_option_groups
def report(
    labels: Folders,
    masks: Masks,
    messages: Messages,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder for the page.", show_default="LABELS/report"
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(
            help="Folder of the images, if they have moved since.", show_default="where they were"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Show only the first N images.", show_default="all")
    ] = None,
    overlays: Annotated[
        bool,
        typer.Option(
            "--overlays",
            help="Also write each image with its masks drawn over it.",
            show_default="off",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an HTML page to browse results, or to compare several side by side.

    It opens in a browser straight from disk, without a server.
    """
    with exit_on_error():
        console = messages.console()
        with loading(console):
            from everything.io.storage.locations import located
            from everything.jobs.progress import show_count
            from everything.report.build import REPORT, write_report

        folders, home = [located(folder) for folder in labels], located(photos) if photos else None
        keep = masks.filter()
        with show_count("images", console) as show:
            page = write_report(folders, out, photos=home, limit=limit, keep=keep, progress=show)
        if overlays:
            from everything.report.overlay import write_overlays

            for number, folder in enumerate(folders):
                place = None  # in the results, or in the page's folder if those are in a bucket
                if out is not None and not isinstance(folder, Path):
                    place = out / f"overlays-{number}"
                with show_count("overlays", console) as show:
                    write_overlays(folder, place, home, show, keep)
    tables = json.loads(page.with_name(REPORT).read_bytes())
    if as_json:
        typer.echo(json.dumps({"page": str(page)} | tables, indent=2))
    elif not messages.quiet:
        typer.echo(page)
    raise typer.Exit(3 if any(folder["unreadable"] for folder in tables["folders"]) else 0)
