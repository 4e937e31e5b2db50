"""`everything compare`: samplers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from everything.cli_errors import errors_shown


def compare(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", help="Photos, and folders of photos at any depth."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="The photos that come with the program's parts.")
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="T",
            help="What is marked in them: a COCO file, a folder of SA-1B JSON, of label maps, or "
            "a data pack.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a data pack that has splits.")] = None,
    names: Annotated[
        str, typer.Option("--variants", metavar="A,B", help="Models whose masks are scored.")
    ] = "ucm",
    ways: Annotated[
        str, typer.Option("--samplers", metavar="A,B", help="The first, or grid-32, is 1.00.")
    ] = "grid-32,hierarchical,object-aware,auto-ppn,all-instance",
    time_on: Annotated[
        str, typer.Option(metavar="A,B", help="Models that are timed, in turns.")
    ] = "",
    timed: Annotated[int, typer.Option(min=1, help="Photos to time on, evenly spread.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over these.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, help="Untimed ones, of the first photo.")] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many photos, evenly spread.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    random_weights: Annotated[
        int | None,
        typer.Option(
            metavar="SEED", help="Make up weights to time that do not come with the program."
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="YAML", help="A recipe for all.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Any setting of the recipe; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For tables, labels, pictures; resumes there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Compare samplers: prompts, masks, recall and seconds beside the dense grid's; a picture."""
    with errors_shown():
        from everything.benchmark.compare import compare as measure
        from everything.benchmark.compare import spread
        from everything.demo import demo_photos
        from everything.errors import InputError
        from everything.inputs import list_inputs

        if demo == bool(inputs):
            raise InputError("give photos or folders, or --demo")
        photos = demo_photos() if demo else list(list_inputs(inputs or [], out))
        console = Console(stderr=True)
        found = measure(
            spread(photos, limit),
            split_names(names),
            split_names(ways),
            truth=truth,
            split=split,
            time_on=split_names(time_on),
            timed=timed,
            repeats=repeats,
            warmup=warmup,
            thread_count=threads,
            random_seed=random_weights,
            config=config,
            sets=sets or (),
            out=out,
            say=lambda line: console.print(
                line, style="dim", highlight=False, markup=False, soft_wrap=True
            ),
            console=console,
        )
    if as_json:
        typer.echo(found.to_json())
    else:
        found.print_to(Console())


def split_names(names: str) -> list[str]:
    """Return the names of a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]
