"""TIFFs that Pillow does not know: several bands, planes apart, 64 bits, BigTIFF."""

from __future__ import annotations

import io
import logging
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from everything.io.images.colour import scale_16_bit, stretch

_ORIENTATION = 274
_COMPRESSION, _DEFLATE = 259, (8, 32946)
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips and of tiles
# Without one of these what is left of the header may describe another picture.
_SHAPE = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339}
_TAG = re.compile(r"TiffTag (\d+)")
_CHUNK = 2**20  # bytes


class _WarningCollector(logging.Handler):
    """tifffile passes over what it cannot read, such as a tag, and only its log tells."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        getattr(self.heard, "messages", []).append(record.getMessage())


_collector = _WarningCollector()
_logger = logging.getLogger("tifffile")
_logger.addHandler(_collector)
_logger.propagate = False


@contextmanager
def tifffile_warnings() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread meanwhile."""
    messages = _collector.heard.messages = []
    try:
        yield messages
    finally:
        del _collector.heard.messages


def check_deflate(tags: Mapping[int, Any], data: bytes) -> None:
    """Raise zlib.error if a strip or tile of a deflated TIFF is not what was written: libtiff stops
    before its checksum; ValueError if it is much more than its pixels."""
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    offsets, counts = (next((tags[t] for t in ts if t in tags), ()) for ts in (_OFFSETS, _COUNTS))
    sizes = [tags.get(tag, 0) for tag in (256, 257, 322, 323, 277)]
    most = 8 * max(sizes[0] * sizes[1], sizes[2] * sizes[3]) * max(1, sizes[4]) + _CHUNK  # bytes
    for offset, count in zip(offsets, counts, strict=True):
        part, size = zlib.decompressobj(), 0
        rest = data[offset : offset + count]
        while rest and not part.eof:
            size += len(part.decompress(rest, _CHUNK))  # in pieces: it may be made to fill memory
            rest = part.unconsumed_tail
            if size > most:
                raise ValueError(f"more than {most:,} bytes of pixels in a part of it")
        if count and not part.eof:
            raise EOFError("the file is truncated")


def tiff_size(data: bytes) -> tuple[int, int]:
    """Return width and height in px of the first page, from its header; raises ValueError if there
    is none."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        try:
            page = file.pages.first
        except IndexError as error:
            raise ValueError("no picture in it") from error
        return page.imagewidth, page.imagelength


def decode_tiff(data: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the first page as upright uint8 (H, W, 3), and notes; of more than three bands the
    first three are red, green and blue. Raises what tifffile raises."""
    notes: list[str] = []
    with tifffile_warnings() as heard, tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        _refuse_lost_tags(heard)
        ends = [sum(part) for part in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > len(data):
            raise EOFError("the file is truncated")
        values = _bands_last(page.asarray(maxworkers=1), page.axes)
        bits, inverted = page.bitspersample, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        orientation = page.tags.valueof(_ORIENTATION, 1)
    notes += [f"tifffile: {' '.join(message.split())}" for message in heard]
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


def _refuse_lost_tags(heard: list[str]) -> None:
    for message in heard:
        lost = _TAG.search(message)
        if lost and int(lost[1]) in _SHAPE:
            raise ValueError(f"tag {lost[1]} cannot be read")


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
