"""Resizes images to a given number of megapixels, to time sizes that are not at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from everything.io.images.decode import read_image
from everything.io.images.sources import Source


def resized(photos: Sequence[Source], megapixels: float, folder: Path) -> list[Source]:
    """Write the images as PNGs of a given size into a folder, keeping their aspect ratio.

    Args:
        photos: The images.
        megapixels: Their new size.
        folder: Where they are written.

    Returns:
        The resized images, under their names.

    Raises:
        ImageError: If an image cannot be read.
    """
    made = []
    for photo in photos:
        image = Image.fromarray(read_image(photo.path).pixels)
        scale = math.sqrt(1e6 * megapixels / (image.width * image.height))
        size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
        source = Source(str(folder), f"{photo.name.removesuffix('.png')}.png")
        source.path.parent.mkdir(parents=True, exist_ok=True)
        image.resize(size, Image.Resampling.LANCZOS).save(source.path, compress_level=1)
        made.append(source)
    return made
