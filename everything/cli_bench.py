"""`everything bench`: models, samplers and other programs, timed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from everything.cli_compare import split_names
from everything.cli_errors import errors_shown


def bench(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", help="Photos, and folders of photos at any depth."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="The photos that come with the program's parts.")
    ] = False,
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
    warmup: Annotated[int, typer.Option(min=0, help="Untimed ones, of the first photo.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many photos.")] = None,
    megapixels: Annotated[
        float | None, typer.Option(min=0.001, help="Bring the photos to this size before.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch.")] = None,
    random_weights: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Make up weights that do not come with the program."),
    ] = None,
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
    split: Annotated[str | None, typer.Option(help="Of a data pack that has splits.")] = None,
    config: Annotated[str | None, typer.Option(metavar="YAML", help="A recipe for all.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Any setting of the recipe; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For tables as Markdown, JSON, CSV, and plots."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Time models and samplers on photos, in turns, stage by stage, also against other programs."""
    with errors_shown():
        from itertools import islice

        from everything.benchmark import bench as measure
        from everything.demo import demo_photos
        from everything.errors import InputError
        from everything.inputs import list_inputs

        if demo == bool(inputs):
            raise InputError("give photos or folders, or --demo")
        photos = demo_photos() if demo else list_inputs(inputs or [], out)

        console = Console(stderr=True)
        report = measure(
            list(islice(photos, limit)),
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
            say=lambda line: console.print(
                line, style="dim", highlight=False, markup=False, soft_wrap=True
            ),
        )
        if out is not None:
            report.save(out)
    if as_json:
        typer.echo(report.to_json())
    else:
        report.print_to(Console())
