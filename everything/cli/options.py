"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from everything.io.images.sources import Source

GROUND_TRUTH = (
    "a COCO or LVIS file, a folder of SA-1B JSON files, BSDS500 as distributed (images/ and "
    "groundTruth/), a folder of label maps, or a data pack (a folder with annotations.json.xz)"
)
NO_IMAGES = "give images or folders, or --demo"
Inputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="INPUT", help="Images, and folders (searched recursively)."),
]
Demo = Annotated[
    bool,
    typer.Option(
        "--demo",
        help="Use the demo images, which are part of the installed packages.",
        show_default="off",
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="If the ground truth is a data pack with splits: use only this split.",
        show_default="all splits",
    ),
]
Warmup = Annotated[
    int, typer.Option(min=0, help="Untimed runs on the first image before the timing starts.")
]
RandomWeights = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        help="Use random weights, with this seed, for variants that are not bundled. Speed can be "
        "measured without a download; masks are meaningless.",
        show_default="download the weights",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="YAML",
        help="A recipe (all settings in one file): a path, or a name from `everything configs`.",
        show_default="none",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Set any setting, for example nms.kind=mask; repeatable. `everything settings` "
        "lists them.",
        show_default="none",
    ),
]
# Which masks of written results are used (everything/io/results/mask_filter.py).
_MASKS = "Which masks"
KeepLevel = Annotated[
    Literal["all", "whole", "part", "subpart"],
    typer.Option(
        "--level", rich_help_panel=_MASKS,
        help="Only masks of this level: whole (objects), part (parts of objects), subpart (parts "
        "of parts).",
    ),
]  # fmt: skip
KeepPredIou = Annotated[
    float,
    typer.Option(
        "--pred-iou-thresh", min=0, max=1, rich_help_panel=_MASKS,
        help="Only masks with a predicted IoU above this; 0 keeps all.",
    ),
]  # fmt: skip
KeepStability = Annotated[
    float,
    typer.Option(
        "--stability-score-thresh", min=0, max=1, rich_help_panel=_MASKS,
        help="Only masks with a stability score of at least this.",
    ),
]  # fmt: skip
KeepMinArea = Annotated[
    int,
    typer.Option(
        "--min-mask-area", min=0, rich_help_panel=_MASKS, help="Only masks of at least this (px)."
    ),
]
KeepMaxArea = Annotated[
    int | None,
    typer.Option(
        "--max-mask-area", min=1, rich_help_panel=_MASKS, help="Only masks of at most this (px).",
        show_default="no limit",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", show_default="off")]


def split_names(names: str) -> list[str]:
    """Return the names in a comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def images_of(inputs: list[Path] | None, demo: bool, out: Path | None) -> Iterable[Source]:
    """Return the images of INPUT, or the demo images.

    Args:
        inputs: images and folders.
        demo: whether to use the demo images instead.
        out: folder of the results, which is not searched for images.

    Raises:
        InputError: if both or neither are given, or an input does not exist.
    """
    from everything.errors import InputError
    from everything.io.images.demo import demo_images
    from everything.io.images.sources import list_inputs

    if demo == bool(inputs):
        raise InputError(NO_IMAGES)
    return demo_images() if demo else list_inputs(inputs or [], out)


def print_message(line: str) -> None:
    """Print a progress message to stderr."""
    Console(stderr=True).print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
