"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from everything.io.images.sources import Source

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="INPUT", help="Photos, and folders of photos at any depth."),
]
Demo = Annotated[
    bool, typer.Option("--demo", help="The photos that come with the program's parts.")
]
Split = Annotated[str | None, typer.Option(help="Of a data pack that has splits.")]
Warmup = Annotated[int, typer.Option(min=0, help="Untimed ones, of the first photo.")]
RandomWeights = Annotated[
    int | None,
    typer.Option(metavar="SEED", help="Make up weights that do not come with the program."),
]
Config = Annotated[str | None, typer.Option(metavar="YAML", help="A recipe for all.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Any setting of the recipe; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def split_names(names: str) -> list[str]:
    """Return the names of a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def photos_of(inputs: list[Path] | None, demo: bool, out: Path | None) -> Iterable[Source]:
    """Return the photos of INPUTs or those of --demo; raises InputError unless it is one of both.

    out: where results go, which is no place of photos.
    """
    from everything.errors import InputError
    from everything.io.images.demo import demo_photos
    from everything.io.images.sources import list_inputs

    if demo == bool(inputs):
        raise InputError("give photos or folders, or --demo")
    return demo_photos() if demo else list_inputs(inputs or [], out)


def say(line: str) -> None:
    """Print a line about what goes on, beside the results."""
    Console(stderr=True).print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
