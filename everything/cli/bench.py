"""`everything bench`: models, samplers and other programs, timed."""

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


def bench(
    inputs: Inputs = None,
    demo: Demo = False,
    names: Annotated[
        str, typer.Option("--variants", metavar="A,B", help="Models, or NAME=CHECKPOINT.")
    ] = "ucm",
    ways: Annotated[
        str,
        typer.Option("--samplers", metavar="A,B", help="Or boxes-50: fifty box prompts."),
    ] = "grid-32",
    against: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="segment-anything, transformers, ultralytics; or other ways of this program: "
            "plain, fp32, bf16, fp16, compile, torch. NAME+malloc: with glibc's malloc tuned.",
        ),
    ] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over all photos.")] = 3,
    warmup: Warmup = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many photos.")] = None,
    megapixels: Annotated[
        float | None, typer.Option(min=0.001, help="Bring the photos to this size before.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch.")] = None,
    random_weights: RandomWeights = None,
    apart: Annotated[
        bool | None,
        typer.Option(help="Each in a process of its own; so it is by itself with other programs."),
    ] = None,
    memory: Annotated[bool, typer.Option(help="Peaks, each in a process of its own.")] = True,
    flops: Annotated[bool, typer.Option(help="Operations, and the time they need.")] = False,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="T", help="What is in the photos, as of evaluate: for their recall."),
    ] = None,
    split: Split = None,
    config: Config = None,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For tables as Markdown, JSON, CSV, and plots."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Time models and samplers on photos, in turns, stage by stage, also against other programs."""
    with errors_shown():
        from itertools import islice

        from everything.benchmark import bench as measure
        from everything.benchmark.output.report_files import save, save_tables
        from everything.benchmark.output.report_tables import print_to

        report = measure(
            list(islice(photos_of(inputs, demo, out), limit)),
            split_names(names),
            split_names(ways),
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
            say=say,
            keep=lambda so_far: save_tables(so_far, out) if out is not None else None,
        )
        if out is not None:
            save(report, out)
    if as_json:
        typer.echo(report.to_json())
    else:
        print_to(Console(), report)
    if report.settings["interrupted"]:
        raise typer.Exit(130)
