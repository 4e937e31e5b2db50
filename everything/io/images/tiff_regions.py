"""Pixels by regions: of an image in memory, or of a file that can be read in parts.

Such files are TIFFs of 8 bits a channel, grey or RGB, upright, in tiles or strips, not compressed
or compressed by deflate (others where imagecodecs is installed). JPEG, PNG and the like must be
decoded from the start: they are read whole.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from everything.core.file_names import printable
from everything.core.geometry import Box, Size
from everything.errors import ImageError, reason_of
from everything.io.images.tiff import tifffile_warnings
from everything.io.storage.locations import Url, is_file

_ORIENTATION = 274
_SEGMENT = 64 * 2**20  # bytes of a strip or tile that may be held
_SUFFIXES = (".tif", ".tiff")
_log = logging.getLogger(__name__)
_MOST = 2**32 - 1  # px: COCO's run lengths are 32 bits


class Tiff:
    """The first page of a TIFF file, of which only what is asked for is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.open("rb")
        try:
            with tifffile_warnings() as heard:
                self._file = tifffile.TiffFile(self._bytes)
                self._page: Any = self._file.pages.first
            self._is_whole = not heard
        except BaseException:
            self._bytes.close()
            raise

    @property
    def size(self) -> Size:
        """Height and width in px."""
        return self._page.imagelength, self._page.imagewidth

    @property
    def bytes(self) -> int:
        """The size of its file."""
        return self._path.stat().st_size

    @property
    def is_readable(self) -> bool:
        """Whether regions of it can be read, and mean what they should."""
        page = self._page
        plain = page.dtype == np.uint8 and page.bitspersample == 8 and page.imagedepth == 1
        colours = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
        bands = page.samplesperpixel in (1, 3) and page.planarconfig == 1
        upright = page.tags.valueof(_ORIENTATION, 1) == 1
        height, width = self.size
        small = height * width <= _MOST
        return (
            plain
            and colours
            and bands
            and upright
            and small
            and self._is_whole
            and self._can_decode
        )

    @property
    def _can_decode(self) -> bool:
        page = self._page
        if page.is_memmappable:
            return True
        rows, columns = self._step()
        if rows * columns * page.samplesperpixel > _SEGMENT:
            return False
        try:
            return page.decode is not None
        except (ValueError, KeyError, ImportError):
            return False

    def _step(self) -> Size:
        page = self._page
        if page.is_tiled:
            return page.tilelength, page.tilewidth
        return min(page.rowsperstrip, page.imagelength), page.imagewidth

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the pixels of a box, uint8 (h, w, 3) RGB; raises ImageError if it is broken."""
        try:
            values = self._mapped(box) if self._page.is_memmappable else self._decoded(box)
        except Exception as error:  # decoders raise anything
            reason = printable(reason_of(error))
            raise ImageError(
                f"{printable(self._path)}: cannot be decoded ({reason}): get another copy of it"
            ) from error
        return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values

    def _mapped(self, box: Box) -> NDArray[np.uint8]:
        x0, y0, x1, y1 = box
        page = self._page
        shape = (*self.size, page.samplesperpixel)
        # Anew for every region: pages of the file that were looked at are given back with it.
        whole = np.memmap(self._path, np.uint8, "r", page.dataoffsets[0], shape)
        return np.array(whole[y0:y1, x0:x1])

    def _decoded(self, box: Box) -> NDArray[np.uint8]:
        x0, y0, x1, y1 = box
        page, (rows, columns) = self._page, self._step()
        across = -(-page.imagewidth // columns)
        out = np.zeros((y1 - y0, x1 - x0, page.samplesperpixel), np.uint8)
        for i in range(y0 // rows, -(-y1 // rows)):
            for j in range(x0 // columns, -(-x1 // columns)):
                part, top, left = self._segment(i * across + j), i * rows, j * columns
                a, b = max(y0, top), min(y1, top + part.shape[0])
                c, d = max(x0, left), min(x1, left + part.shape[1])
                out[a - y0 : b - y0, c - x0 : d - x0] = part[a - top : b - top, c - left : d - left]
        return out

    def _segment(self, number: int) -> NDArray[np.uint8]:
        page, handle = self._page, self._file.filehandle
        handle.seek(page.dataoffsets[number])
        data = handle.read(page.databytecounts[number])
        if len(data) < page.databytecounts[number]:
            raise EOFError("the file is truncated")
        values, _, _ = page.decode(data, number, jpegtables=page.jpegtables)
        if values is None:  # a hole in a sparse file
            return np.zeros((*self._step(), page.samplesperpixel), np.uint8)
        part: NDArray[np.uint8] = values[0]
        return part

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._bytes.close()


def open_tiff(place: Path | Url, larger_than: int) -> Tiff | None:
    """Return a TIFF on disk with a side of more px than `larger_than`, if its regions can be read,
    or None: for every other file."""
    if isinstance(place, Url) or place.suffix.lower() not in _SUFFIXES or not is_file(place):
        return None
    raster = None
    try:
        raster = Tiff(place)
        if max(raster.size) > larger_than and raster.is_readable:
            return raster
    except Exception as error:  # parsers raise anything; reading all of it says what is wrong
        _log.debug("%s: not read by regions (%s)", printable(place), printable(str(error)))
    if raster is not None:
        raster.close()
    return None
