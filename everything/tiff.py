"""TIFFs that Pillow does not know: several bands, planes apart, 64 bits, BigTIFF."""

from __future__ import annotations

import io
import logging

import numpy as np
import tifffile
from numpy.typing import NDArray

from everything.colour import scale_16_bit, stretch

_ORIENTATION = 274
# The errors that it raises say all that it logs.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def tiff_size(data: bytes) -> tuple[int, int]:
    """Return width and height in px of the first page, from its header."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        return page.imagewidth, page.imagelength


def decode_tiff(data: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the first page as upright uint8 (H, W, 3), and notes; of more than three bands the
    first three are red, green and blue. Raises what tifffile raises."""
    notes: list[str] = []
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        ends = [sum(part) for part in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > len(data):
            raise EOFError("the file is truncated")
        values = _bands_last(page.asarray(maxworkers=1), page.axes)
        bits, inverted = page.bitspersample, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        orientation = page.tags.valueof(_ORIENTATION, 1)
    bands = values.shape[2]
    if bands > 3:
        notes.append(f"{bands} bands, the first three are taken for red, green and blue")
    values = values[..., :3] if bands >= 3 else values[..., :1]
    pixels = _to_8_bit(values, bits, notes)
    if inverted:
        pixels = 255 - pixels
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(_upright(pixels, int(orientation))), notes


def _bands_last(values: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    if "S" in axes:
        values = np.moveaxis(values, axes.index("S"), -1)
        axes = axes.replace("S", "") + "S"
    else:
        values, axes = values[..., None], axes + "S"
    # Volumes in one page: the first slice.
    while len(axes) > 3:
        values, axes = values[0], axes[1:]
    return values


def _to_8_bit(values: NDArray[np.generic], bits: int, notes: list[str]) -> NDArray[np.uint8]:
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8 and bits == 8:
        return values.astype(np.uint8)
    if values.dtype in (np.uint8, np.uint16):
        return scale_16_bit(values.astype(np.uint16), bits, notes)
    return stretch(values, notes)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
