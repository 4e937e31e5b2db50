"""`everything bench`: time models and samplers, also against other programs."""

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
def bench(
    messages: ScoreMessages,
    inputs: Inputs = None,
    demo: Demo = False,
    variants: Annotated[
        str,
        typer.Option(
            "--variants",
            metavar="A,B",
            help="Models to time; NAME=CHECKPOINT for other weights.",
            autocompletion=completion.listed(completion.variants),
        ),
    ] = "ucm-lite0",
    samplers: Annotated[
        str,
        typer.Option(
            "--samplers",
            metavar="A,B",
            help="Samplers to time; boxes-N times N random box prompts.",
            autocompletion=completion.listed(completion.samplers),
        ),
    ] = "grid-32",
    against: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Compare with other programs (segment-anything, transformers, ultralytics) or "
            "with other modes of this one (plain: SAM's own decoder; fp32, bf16, fp16, compile; "
            "torch: no compiled kernels). NAME+malloc tunes glibc's malloc.",
            show_default="nothing",
        ),
    ] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds over all images.")] = 3,
    warmup: Warmup = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first N images.", show_default="all")
    ] = None,
    megapixels: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Resize the images to this size first.", show_default="no resizing"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="PyTorch threads.", show_default="PyTorch's default")
    ] = None,
    random_weights: RandomWeights = None,
    apart: Annotated[
        bool | None,
        typer.Option(
            help="Run each case in a separate process.",
            show_default="only if other programs are compared",
        ),
    ] = None,
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory, in a separate process each.")
    ] = True,
    flops: Annotated[
        bool,
        typer.Option(
            help="Also count floating-point operations, and the least time the machine needs for "
            "them."
        ),
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="T",
            help=f"Ground truth of the images, to report recall: {GROUND_TRUTH}.",
            show_default="none",
        ),
    ] = None,
    split: Split = None,
    config: Config = None,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for tables (Markdown, JSON, CSV) and plots.",
            show_default="none",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Time models and samplers on images, stage by stage, also against other programs.

    The cases take turns on each image, so that all see the same state of the machine.
    """
    with exit_on_error():
        from itertools import islice

        console = messages.console()
        with loading(console):
            from everything.benchmark import bench as measure
            from everything.benchmark.output.report_files import claim, save, save_tables
            from everything.benchmark.output.report_tables import print_to

        if out is not None:
            claim(out)
        report = measure(
            list(islice(images_of(inputs, demo, out), limit)),
            split_names(variants),
            split_names(samplers),
            against=split_names(against),
            repeats=repeats,
            warmup=warmup,
            megapixels=megapixels,
            thread_count=threads,
            random_seed=random_weights,
            apart=apart,
            memory=memory,
            flops=flops,
            truth=truth,
            split=split,
            config=config,
            sets=sets or (),
            on_message=message_printer(console),
            on_checkpoint=lambda so_far: save_tables(so_far, out) if out is not None else None,
        )
        if out is not None:
            save(report, out)
    if as_json:
        typer.echo(report.to_json())
    else:
        print_to(Console(), report)
    if report.settings["interrupted"]:
        raise typer.Exit(130)
