"""Writes overlays: every image of a results folder with its masks drawn over it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from everything.core.file_names import printable
from everything.errors import ImageError, InputError
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.io.storage.locations import Location
from everything.masks.drawing import overlay

_log = logging.getLogger(__name__)


def write_overlays(
    labels: Location,
    out: Path | None = None,
    photos: Location | None = None,
    progress: Callable[[int, int], None] | None = None,
    keep: MaskFilter | None = None,
    on_skip: Callable[[str], None] = _log.warning,
) -> list[Path]:
    """Write every image of a results folder with its masks, as PNG.

    Args:
        labels: Results folder of `everything label`, or a folder of SA-1B JSON files beside their
            images.
        out: Output folder, by default `labels/overlays`; files have the images' relative names.
        photos: Folder of the images, if they have moved.
        progress: Called with the number of images done and of all images.
        keep: Which masks are drawn; all by default.
        on_skip: Called with the reason for each image or annotation file that cannot be read, or
            image that has changed since.

    Returns:
        The files.

    Raises:
        InputError: If the folder has no results, or no annotation file can be read.
        ImageError: If no image can be read.
    """
    results = Results(labels, photos, keep)
    if out is None and not isinstance(labels, Path):
        raise InputError(f"{printable(labels)}: not on this machine: give --out")
    home = out or Path(labels) / "overlays"
    written = []
    for number, key in enumerate(results.files, 1):
        try:
            written.append(_write_one(results, key, home / f"{key}.png"))
        except (ImageError, InputError) as error:
            if number == len(results) and not written:
                raise
            on_skip(f"no overlay of {printable(key)}: {error}")
        if progress is not None:
            progress(number, len(results))
    return written


def _write_one(results: Results, key: str, target: Path) -> Path:
    result = results.read(key)
    pixels = original_image(results, key, result)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(overlay(pixels, result.annotations)).save(target)
    return target
