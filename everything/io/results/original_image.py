"""The original image of a result."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.errors import ImageError
from everything.io.images.decode import Limits, decode_image
from everything.io.images.fetch import read_source
from everything.io.images.tiff_regions import Tiff, open_tiff
from everything.io.results.reader import Result, Results

_LARGE = 4  # images larger than this many times the wanted side are read by regions


Pixels = NDArray[np.uint8]


def original_image(results: Results, key: str, result: Result, side: int | None = None) -> Pixels:
    """Return the image of a result, upright, uint8 (H, W, 3) RGB.

    Args:
        results: The results that `result` was read from.
        key: Its key there.
        result: The result.
        side: A longer side in px that suffices. Much larger images whose format allows it are
            reduced while they are read.

    Raises:
        ImageError: The image is not found, cannot be read, or has another size than when it was
            labelled.
    """
    source, limits = results.image(key, result.name), Limits()
    if source is None:
        raise ImageError(f"{printable(result.name)}: the image is not found: give --photos")
    raster = None if side is None else open_tiff(source.location, larger_than=_LARGE * side)
    if raster is not None and side is not None:
        with closing(raster):
            _check_size(raster.size, result, source.printable)
            return _reduced(raster, max(raster.size) // (2 * side))
    pixels = decode_image(read_source(source, limits), source.printable, limits).pixels
    _check_size((pixels.shape[0], pixels.shape[1]), result, source.printable)
    return pixels


def _check_size(size: Size, result: Result, where: str) -> None:
    if size != result.size:
        (h, w), (height, width) = size, result.size
        raise ImageError(
            f"{where}: the image is {w} x {h} px, but was {width} x {height} px when it was "
            "labelled: label it again"
        )


def _reduced(raster: Tiff, factor: int) -> Pixels:
    """Return the image reduced by `factor` (means of pixels), read strip by strip."""
    height, width = raster.size
    step = factor * max(1, 1024 // factor)
    strips = [
        np.asarray(
            Image.fromarray(raster.read((0, y, width, min(height, y + step)))).reduce(factor)
        )
        for y in range(0, height, step)
    ]
    return np.concatenate(strips)
