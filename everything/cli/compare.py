"""`everything compare`: samplers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from everything.cli.errors import errors_shown
from everything.cli.options import (
    Config,
    Demo,
    Inputs,
    Json,
    RandomWeights,
    Sets,
    Split,
    Warmup,
    photos_of,
    say,
    split_names,
)


def compare(
    inputs: Inputs = None,
    demo: Demo = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="T",
            help="What is marked in them: a COCO file, a folder of SA-1B JSON, of label maps, or "
            "a data pack.",
        ),
    ] = None,
    split: Split = None,
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
    warmup: Warmup = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many photos, evenly spread.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    random_weights: RandomWeights = None,
    config: Config = None,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For tables, labels, pictures; resumes there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare samplers: prompts, masks, recall and seconds beside the dense grid's; a picture."""
    with errors_shown():
        from everything.benchmark.sampler_comparison import compare as measure
        from everything.benchmark.sampler_comparison import spread

        found = measure(
            spread(list(photos_of(inputs, demo, out)), limit),
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
            say=say,
            console=Console(stderr=True),
        )
    if as_json:
        typer.echo(found.to_json())
    else:
        found.print_to(Console())
