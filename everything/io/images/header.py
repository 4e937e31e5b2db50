"""What the header of an image file says, without decoding its pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from everything.core.geometry import Size
from everything.io.images.decode import opened_image, read_image

_ORIENTATION, _TURNED = 0x0112, range(5, 9)


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    Attributes:
        format: Pillow's name of the format, as "JPEG".
        size: (H, W) in px of the upright image.
        mode: Pillow's mode, as "RGB".
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        frames: Number of frames or pages.
    """

    format: str
    size: Size
    mode: str
    orientation: int
    frames: int


def read_size(file: Path) -> Size:
    """Return (H, W) in px of the upright image in a file, decoding it only if need be.

    Raises:
        ImageError: It cannot be read.
    """
    header = read_header(file)
    return read_image(file).pixels.shape[:2] if header is None else header.size


def read_header(file: Path | bytes) -> Header | None:
    """Return the header of an image, given as a path or as its content.

    None if only decoding tells: for TIFF, of whose pages one is chosen, and for what Pillow does
    not know. The EXIF that a PNG may have behind its pixels is not looked for.
    """
    try:
        with opened_image(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            if image.format == "TIFF":
                return None
            exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
            orientation = int(exif.get(_ORIENTATION, 1))
            size = image.size if orientation in _TURNED else image.size[::-1]
            frames = int(getattr(image, "n_frames", 1))
            return Header(str(image.format), size, image.mode, orientation, frames)
    except Exception:  # parsers of headers raise anything
        return None
