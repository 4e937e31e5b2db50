"""Writes overlays: every image of a results folder with its masks drawn over it.

Overlays of an earlier run are replaced; a folder with files of others is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from everything.core.file_names import printable
from everything.errors import ImageError, InputError, StoreError
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.io.storage.locations import Location
from everything.io.storage.output_folder import OutputFolder
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
        out: Output folder, by default `labels/overlays`; files have the images' relative names. The
            overlays of an earlier run in it are deleted.
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
        StoreError: If `out` holds something else or cannot be written.
    """
    results = Results(labels, photos, keep)
    if out is None and not isinstance(labels, Path):
        raise InputError(f"{printable(labels)}: not on this machine: give --out")
    folder = _checked(labels, out)
    written: list[Path] = []
    for number, key in enumerate(results.files, 1):
        try:
            drawn = _drawn(results, key)
            if not written:  # the earlier ones stay until there are new ones
                folder.claim()
                folder.begin()
            folder.write(f"{key}.png", drawn)
            written.append(folder.root / f"{key}.png")
        except (ImageError, InputError) as error:
            if number == len(results) and not written:
                raise
            on_skip(f"no overlay of {printable(key)}: {error}")
        if progress is not None:
            progress(number, len(results))
    folder.finish()
    return written


def _checked(labels: Location, out: Path | None) -> OutputFolder:
    """The output folder; raises StoreError if it is somebody else's."""
    home = out or Path(labels) / "overlays"
    if out is None and home.is_symlink():
        raise StoreError(
            f"{printable(home)}: a link, which is not followed: replace it by a folder"
        )
    folder = OutputFolder(home, "overlays")
    if not (folder.is_empty() or folder.is_own()):
        raise StoreError(
            f"{printable(home)}: not empty and not overlays, or those of a version that kept no "
            "list of its files: move or empty it"
        )
    return folder


def _drawn(results: Results, key: str) -> bytes:
    """The overlay of an image as PNG."""
    result = results.read(key)
    buffer = BytesIO()
    pixels = overlay(original_image(results, key, result), result.annotations)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
