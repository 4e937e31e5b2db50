"""Regions of TIFF files that can be read in parts.

These have 8 bits per band, grey or RGB, with or without opacity, are upright, and lie in tiles or
strips that decompress alone. Regions have the pixels that the whole image has. JPEG, PNG and the
like must be decoded from the start: they are read whole.
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
from everything.io.images.tiff import can_decode, tifffile_warnings
from everything.io.images.tiff_pages import bands_of, choose_page
from everything.io.storage.locations import Url, is_file

_ORIENTATION = 274
_SEGMENT = 64 * 2**20  # bytes of a strip or tile that may be held
_SUFFIXES = (".tif", ".tiff")
_log = logging.getLogger(__name__)
_MOST = 2**32 - 1  # px: COCO's run lengths are 32 bits


class Tiff:
    """The page of a TIFF file that is the image; only what is asked for is read.

    Attributes:
        notes: What was guessed or left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.open("rb")
        notes: list[str] = []
        try:
            with tifffile_warnings() as heard:
                self._file = tifffile.TiffFile(self._bytes)
                self._page: Any = choose_page(self._file, notes)
            self._is_whole = all("GDAL_NODATA" in message for message in heard)
            self._bands = bands_of(self._page, notes)
            if self.is_readable:  # says once what there is to be said of the profile
                self._bands.to_rgb(np.zeros((1, 1, self._page.samplesperpixel), np.uint8), notes)
        except BaseException:
            self._bytes.close()
            raise
        self.notes = tuple(notes)

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
        height, width = self.size
        return (
            (page.dtype == np.uint8 and page.bitspersample == 8 and page.imagedepth == 1)
            and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
            and (page.planarconfig == 1 or page.samplesperpixel == 1)
            and page.tags.valueof(_ORIENTATION, 1) == 1
            and height * width <= _MOST
            and self._is_whole
            and self._can_decode
        )

    @property
    def _can_decode(self) -> bool:
        page = self._page
        if page.is_memmappable:
            return True
        rows, columns = self._step()
        return rows * columns * page.samplesperpixel <= _SEGMENT and can_decode(page)

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
        return self._bands.to_rgb(values, [])

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
