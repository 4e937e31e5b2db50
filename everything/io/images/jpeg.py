"""JPEGs, with what their decoder had to guess: Pillow does not say when libjpeg fills in."""

from __future__ import annotations

import re

import simplejpeg
from PIL import Image

_SPACES = {"RGB": "RGB", "L": "GRAY"}
_SCAN = b"\xff\xda"
_MOST_SCANS = 100  # encoders make some ten; each one takes as long as a whole image
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart
_DAMAGE = re.compile("corrupt|premature|inconsistent|invalid", re.IGNORECASE)


def load_jpeg(image: Image.Image, data: bytes, notes: list[str]) -> Image.Image:
    """Return an opened JPEG with its pixels, those that Pillow would give.

    Says in `notes` if data was missing or wrong and libjpeg went on: parts are then grey, shifted
    or of another colour. Kinds that TurboJPEG does not know, such as other subsamplings, are
    left to Pillow unchecked. Raises what Pillow raises, and ValueError for an image made to take
    hours.
    """
    if data.count(_SCAN) > _MOST_SCANS and (scans := _scans(data)) > _MOST_SCANS:
        raise ValueError(f"{scans} scans, of which images have at most {_MOST_SCANS}")
    try:
        if image.mode in _SPACES:
            pixels = simplejpeg.decode_jpeg(data, _SPACES[image.mode])
            if pixels.shape[1::-1] == image.size:
                loaded = Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)
                loaded.info = image.info
                return loaded
        else:  # CMYK, which Adobe inverts: read for its errors alone, an eighth of it
            simplejpeg.decode_jpeg(data, "CMYK", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        if _DAMAGE.search(str(error)):
            notes.append(f"damaged, parts of it may be wrong ({' '.join(str(error).split())})")
    image.load()
    return image


def _scans(data: bytes) -> int:
    """Scans of the first image; two bytes that look like one may be anywhere in its metadata."""
    place, count = 2, 0
    while (found := _NEXT_MARKER.search(data, place)) and found.group() != b"\xff\xd9":
        count += found.group() == _SCAN
        place = found.end()
        if found.group() != b"\xff\x01":
            place += int.from_bytes(data[place : place + 2], "big")
    return count
