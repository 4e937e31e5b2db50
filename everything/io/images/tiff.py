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

from everything.io.images.bit_depth import to_8_bit
from everything.io.images.limits import Limits, Refused, check_size
from everything.io.images.tiff_pages import (
    Bands,
    bands_of,
    choose_page,
    no_data_of,
    with_first_page,
)

_ORIENTATION = 274
_COMPRESSION, _DEFLATE = 259, (8, 32946)
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips and of tiles
# Without one of these what is left of the header may describe another picture.
_SHAPE = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339}
_TAG = re.compile(r"TiffTag (\d+)")
_CHUNK = 2**20  # bytes
_BYTES_A_PIXEL = 16  # of RGBA as floats
_WEBP = 50001  # a compression that Pillow knows and its libtiff does not
_SPACES = tifffile.PHOTOMETRIC
# Their numbers are no brightness: as RGB or grey they would be another picture.
_OTHER_COLOURS = (
    *(_SPACES.PALETTE, _SPACES.CIELAB, _SPACES.ICCLAB, _SPACES.ITULAB),
    *(_SPACES.LOGL, _SPACES.LOGLUV),
)


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


def image_first(data: bytes, notes: list[str]) -> bytes:
    """Return the content of a TIFF with the page first that is the image; see choose_page."""
    try:
        with tifffile_warnings(), tifffile.TiffFile(io.BytesIO(data)) as file:
            page = choose_page(file, notes)
            return data if page is file.pages.first else with_first_page(data, page)
    except Exception:  # parsers raise anything; reading the first page says what is wrong
        return data


def is_beyond_pillow(data: bytes) -> bool:
    """Tell whether the first page has numbers that Pillow reads as others, or not at all: of grey
    and RGB more than 8 bits, signs and floats; of palettes more than 8 bits; WebP."""
    known = (_SPACES.MINISBLACK, _SPACES.MINISWHITE, _SPACES.RGB, _SPACES.PALETTE)
    try:
        with tifffile_warnings(), tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages.first
            is_deep = page.bitspersample > 8 or page.sampleformat != tifffile.SAMPLEFORMAT.UINT
            is_other = is_deep and page.photometric in known
            return (is_other or page.compression == _WEBP) and can_decode(page)
    except Exception:  # parsers raise anything; Pillow says what is wrong
        return False


def decode_tiff(data: bytes, limits: Limits, notes: list[str], stretch: bool) -> NDArray[np.uint8]:
    """Return the first page as upright uint8 (H, W, 3) sRGB.

    Args:
        data: The file's content.
        limits: Of its size.
        notes: Gets what was guessed or left out.
        stretch: See bit_depth.

    Raises:
        Refused: It is over a limit.
        Exception: What tifffile raises.
    """
    with tifffile_warnings() as heard, tifffile.TiffFile(io.BytesIO(data)) as file:
        try:
            page: Any = file.pages.first
        except IndexError as error:
            raise ValueError("no image in it") from error
        check_size(page.imagewidth, page.imagelength, limits)
        if page.photometric in _OTHER_COLOURS:
            reason = f"{page.photometric.name} colours of {page.bitspersample} bits are not read"
            raise Refused(reason, "convert it to RGB")
        _check_bands(page, limits)
        _refuse_lost_tags(heard)
        ends = [sum(part) for part in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > len(data):
            raise EOFError("the file is truncated")
        check_deflate({tag.code: tag.value for tag in page.tags}, data)
        values = _bands_last(page.asarray(maxworkers=1), page.axes)
    # tifffile wants GDAL_NODATA to fit the number type, which that of GDAL does not.
    told = (" ".join(message.split()) for message in heard)
    notes += [f"tifffile: {message}" for message in told if "GDAL_NODATA" not in message]
    bands = bands_of(page, notes)
    used = [*bands.colour, *(() if bands.alpha is None else (bands.alpha,))]
    if used != list(range(values.shape[2])):
        values, bands = values[..., used], bands.among(used)
    pixels = bands.to_rgb(_to_8_bit(values, page, bands, notes, stretch), notes)
    orientation = page.tags.valueof(_ORIENTATION, 1)
    return np.ascontiguousarray(_upright(pixels, int(orientation)))


def can_decode(page: Any) -> bool:
    """Tell whether tifffile, with the codecs that are installed, decodes a page's compression."""
    try:
        return page.decode is not None
    except (ValueError, KeyError, ImportError):
        return False


def _check_bands(page: Any, limits: Limits) -> None:
    """Refuse bands that need more memory than the largest image of RGBA floats: a small file may
    declare thousands of them, and leave them out."""
    size = page.nbytes
    most = _BYTES_A_PIXEL * limits.max_pixels
    if size > most:
        reason = f"{page.samplesperpixel} bands of {size:,} bytes are over the limit of {most:,}"
        raise Refused(reason, "write fewer bands, or raise reading.max_pixels")


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


def _to_8_bit(
    values: NDArray[np.generic], page: Any, bands: Bands, notes: list[str], stretch: bool
) -> NDArray[np.uint8]:
    """Bands of a page as 8 bits; of its opacity the full range is used."""
    is_inverted = page.photometric == _SPACES.MINISWHITE
    bits = page.bitspersample
    if values.dtype == np.uint8 and bits == 8 and not is_inverted:
        return values.astype(np.uint8, copy=False)
    colour, alpha = values, None
    if bands.alpha is not None:
        alpha = to_8_bit(values[..., bands.alpha], bits, [], stretch=False)
        colour = values[..., list(bands.colour)]
    pixels = to_8_bit(
        colour,
        bits,
        notes,
        stretch=stretch and not (values.dtype == np.uint8 and bits <= 8),
        no_data=None if bits <= 8 else no_data_of(page, notes),
        is_inverted=is_inverted,
        visible=None if alpha is None else alpha > 0,
    )
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
