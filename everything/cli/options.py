"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from everything.cli import completion
from everything.cli.option_groups import OptionGroup

if TYPE_CHECKING:
    from everything.io.images.sources import Source
    from everything.io.results.mask_filter import MaskFilter

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
        "measured without a download; masks are blobs around their prompts, of SAM's sizes.",
        show_default="download the weights",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="YAML",
        help="A recipe (all settings in one file): a path, or a name from `everything configs`.",
        show_default="none",
        autocompletion=completion.configs,
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
        autocompletion=completion.settings,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", show_default="off")]


def _mask_option(*name: str, **more: Any) -> Any:
    return typer.Option(*name, rich_help_panel="Which masks", **more)


@dataclass(frozen=True)
class Masks(OptionGroup):
    """Options for which masks of written results are used (the fields of `MaskFilter`)."""

    level: Annotated[
        Literal["all", "whole", "part", "subpart"],
        _mask_option(
            "--level",
            help="Only masks of this level: whole (objects), part (parts of objects), subpart "
            "(parts of parts).",
        ),
    ] = "all"
    pred_iou_thresh: Annotated[
        float,
        _mask_option(
            "--pred-iou-thresh", min=0, max=1,
            help="Only masks with a predicted IoU above this; 0 keeps all.",
        ),
    ] = 0.0  # fmt: skip
    stability_score_thresh: Annotated[
        float,
        _mask_option(
            "--stability-score-thresh", min=0, max=1,
            help="Only masks with a stability score of at least this.",
        ),
    ] = 0.0  # fmt: skip
    min_mask_area: Annotated[
        int, _mask_option("--min-mask-area", min=0, help="Only masks of at least this (px).")
    ] = 0
    max_mask_area: Annotated[
        int | None,
        _mask_option(
            "--max-mask-area", min=1, help="Only masks of at most this (px).",
            show_default="no limit",
        ),
    ] = None  # fmt: skip
    reviewed: Annotated[
        Path | None,
        _mask_option(
            "--reviewed", metavar="JSON", show_default="none",
            help="Leave out what a review, saved by the page of `everything report`, rejects; its "
            "tags become classes.",
        ),
    ] = None  # fmt: skip
    accepted_only: Annotated[
        bool,
        _mask_option(
            "--accepted-only", show_default="off",
            help="With --reviewed: only masks that were accepted, alone or with their image.",
        ),
    ] = False  # fmt: skip

    def filter(self) -> MaskFilter:
        """Return the filter of these options.

        Raises:
            ConfigError: A value is out of its limits, or needs another option.
            InputError: The review cannot be read.
        """
        from everything.errors import ConfigError
        from everything.io.results.mask_filter import MaskFilter
        from everything.io.results.review import Review

        options = vars(self).copy()
        path, accepted_only = options.pop("reviewed"), options.pop("accepted_only")
        if accepted_only and path is None:
            raise ConfigError("--accepted-only: needs a review: add --reviewed review.json")
        review = None if path is None else Review.read(path, accepted_only)
        return MaskFilter(**options, reviewed=review)


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


def message_printer(console: Console) -> Callable[[str], None]:
    """Return a function that prints a progress message to a console."""
    return partial(console.print, style="dim", highlight=False, markup=False, soft_wrap=True)
