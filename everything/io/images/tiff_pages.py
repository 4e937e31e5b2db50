"""Which page of a TIFF is the image, and what its bands mean."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from everything.io.images.colour import to_rgb

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _PROFILE, _NO_DATA = 254, 255, 34675, 42113
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_REDUCED = 2  # of SubfileType
_SENSOR = (32803, 34892)  # PhotometricInterpretation of raw data of cameras
_PREMULTIPLIED, _STRAIGHT, _OF_COREL = 1, 2, 999  # of ExtraSamples
_MOST_PAGES = 1000  # that are looked at


def choose_page(file: tifffile.TiffFile, notes: list[str]) -> Any:
    """Return the page that is the image: the first that is neither a smaller copy of another page
    nor a mask, and of those behind smaller copies the largest.

    Args:
        file: An open TIFF.
        notes: Gets what is left out.

    Raises:
        ValueError: There is no page in it.
    """
    try:
        first: Any = file.pages.first
    except IndexError as error:
        raise ValueError("no image in it") from error
    if not _is_copy(first) and first.photometric not in _SENSOR:
        if any(not _is_copy(page) for page in islice(_pages(file), 1, None)):
            notes.append(f"only the first of {len(file.pages)} pages is read")
        return first
    found = [first, *islice(_pages(file), 1, None)]
    found += [page for outer in list(found) for page in _pages(outer)]
    shown = [page for page in found if page.photometric not in _SENSOR]
    whole = [page for page in shown if not _is_copy(page)]
    page = max(whole or shown or found, key=_area)  # max: the first of the largest
    size = f"{page.imagewidth} x {page.imagelength} px"
    if page is not first:
        notes.append(f"the first page is a smaller copy or a mask: the one of {size} is read")
    if len(shown) < len(found):
        notes.append(f"raw sensor data is left out: the page of {size} is read")
    return page


def with_first_page(data: bytes, page: Any) -> bytes:
    """Return the content of a TIFF whose header leads to a page first, for readers of one page."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    start = struct.pack(f"{order}{'Q' if is_big else 'I'}", page.offset)
    at = 8 if is_big else 4
    return data[:at] + start + data[at + len(start) :]


def _pages(file: Any) -> Iterator[Any]:
    """The pages of a file or of a page's SubIFDs, up to the first that is broken."""
    with suppress(Exception):  # parsers raise anything; the page that is chosen is read anew
        pages = islice(file.pages or (), _MOST_PAGES)
        yield from (page for page in pages if isinstance(page, tifffile.TiffPage))


def _is_copy(page: Any) -> bool:
    kind = page.tags.valueof(_NEW_SUBFILE_TYPE, 0)
    old = page.tags.valueof(_SUBFILE_TYPE, 0)
    return bool(int(kind) & (_REDUCED | _MASK)) or old == _OLD_REDUCED


def _area(page: Any) -> int:
    return int(page.imagewidth * page.imagelength)


def no_data_of(page: Any, notes: list[str]) -> float | None:
    """Return the value that stands for no data (GDAL_NODATA), None if there is none."""
    text = page.tags.valueof(_NO_DATA)
    if text is None:
        return None
    try:
        return float(str(text).strip(" \0"))
    except ValueError:
        notes.append(f"no-data value {str(text)[:40]!r} ignored")
        return None


@dataclass(frozen=True)
class Bands:
    """What the bands of a page mean.

    Attributes:
        colour: Indices of red, green and blue, or of grey.
        alpha: Index of the opacity; None if all is opaque.
        is_premultiplied: Whether colours were multiplied by the opacity.
        profile: Embedded ICC profile.
    """

    colour: tuple[int, ...]
    alpha: int | None = None
    is_premultiplied: bool = False
    profile: bytes | None = None

    def among(self, used: Sequence[int]) -> Bands:
        """Return the same of an array that has only these bands."""
        alpha = None if self.alpha is None else used.index(self.alpha)
        return replace(self, colour=tuple(used.index(band) for band in self.colour), alpha=alpha)

    def to_rgb(self, pixels: NDArray[np.uint8], notes: list[str]) -> NDArray[np.uint8]:
        """Return (H, W, bands) as uint8 (H, W, 3) sRGB, transparent parts over white."""
        colour = pixels[..., list(self.colour)]
        if self.alpha is None:
            if self.profile is None:
                return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
            image = Image.fromarray(colour[..., 0] if colour.shape[2] == 1 else colour)
        else:
            mode = "LA" if len(self.colour) == 1 else "RGBA"
            mode = mode[:-1] + "a" if self.is_premultiplied else mode
            both = np.concatenate([colour, pixels[..., self.alpha : self.alpha + 1]], axis=2)
            height, width = both.shape[:2]
            image = Image.frombytes(mode, (width, height), both.tobytes())
        if self.profile is not None:
            image.info["icc_profile"] = self.profile
        return np.array(to_rgb(image, notes))


def bands_of(page: Any, notes: list[str]) -> Bands:
    """Return what the bands of a page mean; of more than three the first three are the colour."""
    count = page.samplesperpixel
    extra = [int(kind) for kind in page.extrasamples]
    if not extra and count == 4 and page.photometric == tifffile.PHOTOMETRIC.RGB:
        extra = [_STRAIGHT]  # writers that leave the tag out mean opacity
    first = count - len(extra)
    opacity = (_PREMULTIPLIED, _STRAIGHT, _OF_COREL)
    alpha = next((n for n, kind in enumerate(extra, first) if kind in opacity), None)
    shown = [band for band in range(count) if band != alpha]
    if page.photometric == tifffile.PHOTOMETRIC.RGB and first >= 3:
        shown = shown[:first]
        left_out = 0  # what follows is said to be no colour
    else:
        left_out = len(shown) - (3 if len(shown) >= 3 else 1)
    colour = tuple(shown[:3] if len(shown) >= 3 else shown[:1])
    if left_out:
        taken = (
            "first three are taken for red, green and blue" if len(colour) == 3 else "first is read"
        )
        notes.append(f"{len(shown)} bands, the {taken}")
    profile = page.tags.valueof(_PROFILE)
    is_premultiplied = alpha is not None and extra[alpha - first] == _PREMULTIPLIED
    return Bands(colour, alpha, is_premultiplied, bytes(profile) if profile else None)
