"""JPEGs, with what their decoder had to guess: Pillow does not say when libjpeg fills in."""

from __future__ import annotations

import io
import re

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import open as open_image

_SPACES = {"RGB": "RGB", "L": "GRAY"}
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MOST_SCANS = 100  # encoders make some ten; each one takes as long as a whole image
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart
_DAMAGE = re.compile("corrupt|premature|inconsistent|invalid", re.IGNORECASE)


def load_jpeg(image: Image.Image, data: bytes, notes: list[str]) -> Image.Image:
    """Return an opened JPEG with its pixels, those that Pillow would give.

    Args:
        image: As Pillow has opened it.
        data: The file's content.
        notes: Gets what libjpeg filled in: parts are then grey, shifted or of another colour. Kinds
            that TurboJPEG does not know, such as other subsamplings, are left to Pillow unchecked.

    Raises:
        ValueError: It is made to take hours.
        Exception: What Pillow raises.
    """
    if data.count(_SCAN) > _MOST_SCANS and (scans := _scans(data)) > _MOST_SCANS:
        raise ValueError(f"{scans} scans, of which images have at most {_MOST_SCANS}")
    try:
        pixels = _pixels(image, data)
    except ValueError as error:
        if _DAMAGE.search(str(error)):
            if (whole := _with_end(image, data)) is not None:
                notes.append("its end marker is missing, all of its rows are there")
                return whole
            notes.append(f"damaged, parts of it may be wrong ({' '.join(str(error).split())})")
        pixels = None
    return _loaded(image, pixels)


def _loaded(image: Image.Image, pixels: NDArray[np.uint8] | None) -> Image.Image:
    """The image with these pixels, or with those of Pillow."""
    if pixels is None:
        image.load()
        return image
    loaded = Image.fromarray(pixels)
    loaded.info = image.info
    return loaded


def _pixels(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """The pixels of grey and RGB; None where Pillow has to read them. Raises ValueError for damage
    and for kinds that TurboJPEG does not know."""
    if image.mode not in _SPACES:  # CMYK, which Adobe inverts: read for its errors alone, an eighth
        simplejpeg.decode_jpeg(data, "CMYK", min_height=1, min_width=1, min_factor=8)
        return None
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _SPACES[image.mode])
    if pixels.shape[1::-1] != image.size:
        return None
    return pixels[..., 0] if image.mode == "L" else pixels


def _with_end(image: Image.Image, data: bytes) -> Image.Image | None:
    """The image with an end marker after its data, if nothing else is missing."""
    closed = data + _END
    try:
        pixels = _pixels(image, closed)
    except ValueError:
        return None
    return _loaded(open_image(io.BytesIO(closed), formats=("JPEG",)), pixels)


def _scans(data: bytes) -> int:
    """Scans of the first image; two bytes that look like one may be anywhere in its metadata."""
    place, count = 2, 0
    while (found := _NEXT_MARKER.search(data, place)) and found.group() != _END:
        count += found.group() == _SCAN
        place = found.end()
        if found.group() != b"\xff\x01":
            place += int.from_bytes(data[place : place + 2], "big")
    return count
