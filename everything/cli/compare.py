"""`everything compare`: compare samplers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from everything.cli import completion
from everything.cli.messages import ScoreMessages, loading
from everything.cli.option_groups import with_option_groups
from everything.cli.options import (
    GROUND_TRUTH,
    Config,
    Demo,
    Inputs,
    Json,
    RandomWeights,
    Sets,
    Split,
    Warmup,
    images_of,
    message_printer,
    split_names,
)
from everything.jobs.command_errors import exit_on_error


@with_option_groups
def compare(
    messages: ScoreMessages,
    inputs: Inputs = None,
    demo: Demo = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="T",
            help=f"Ground truth of the images, to score the masks: {GROUND_TRUTH}.",
            show_default="none: nothing is scored",
        ),
    ] = None,
    split: Split = None,
    variants: Annotated[
        str,
        typer.Option(
            "--variants",
            metavar="A,B",
            help="Models to compare the samplers with.",
            autocompletion=completion.listed(completion.variants),
        ),
    ] = "ucm-lite0",
    samplers: Annotated[
        str,
        typer.Option(
            "--samplers",
            metavar="A,B",
            help="Samplers to compare. Ratios are relative to grid-32, or to the first one "
            "without it.",
            autocompletion=completion.listed(completion.samplers),
        ),
    ] = "grid-32,hierarchical,object-aware,auto-ppn,all-instance",
    time_on: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Models to time the samplers on.",
            show_default="none: nothing is timed",
            autocompletion=completion.listed(completion.variants),
        ),
    ] = "",
    timed: Annotated[
        int, typer.Option(min=1, help="Number of images to time on, evenly spaced over all.")
    ] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds over these images.")] = 3,
    warmup: Warmup = 1,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use only N images, evenly spaced over all.", show_default="all"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="PyTorch threads.")] = 1,
    random_weights: RandomWeights = None,
    config: Config = None,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for labels, tables and pictures of the masks. Rerun with the same folder "
            "to resume.",
            show_default="none: only print",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare samplers with the dense grid: number of prompts and masks, recall, and time."""
    with exit_on_error():
        console = messages.console()
        with loading(console):
            from everything.benchmark.sampler_comparison import compare as measure
            from everything.benchmark.sampler_comparison import spread

        found = measure(
            spread(list(images_of(inputs, demo, out)), limit),
            split_names(variants),
            split_names(samplers),
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
            on_message=message_printer(console),
            console=console,
        )
    if as_json:
        typer.echo(found.to_json())
    else:
        found.print_to(Console())
