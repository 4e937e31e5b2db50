"""Images as people have them, read into upright 8-bit sRGB pixels.

A file is read by its content, never by its suffix, and only if its header keeps the limits. What
a viewer would show is what is segmented: EXIF orientation is applied, an embedded colour profile
is converted to sRGB, transparent parts are white, of several frames or pages the first counts.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.Image import open as open_image  # as it is now: ultralytics puts its own in its place

from everything.core.file_names import printable
from everything.errors import ImageError
from everything.io.images.colour import to_rgb
from everything.io.images.limits import ANOTHER_COPY, Limits, Refused, check_size
from everything.io.images.png import SIGNATURE, mended

__all__ = ["DecodedImage", "Limits", "decode_image", "read_file", "read_image"]

# Formats that hold images and have a signature. Not EPS (it would start Ghostscript) and the like.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "JPEG2000", "PPM")
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION, _BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _PLANAR = 0x0112, 258, 277, 284
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class DecodedImage:
    """pixels: uint8 (H, W, 3) sRGB, upright. notes: what had to be guessed or left out."""

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Width in upright px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in upright px."""
        return int(self.pixels.shape[0])


def read_image(path: Path, limits: Limits | None = None, stretch: bool = True) -> DecodedImage:
    """Return the image in a file.

    Args:
        path: The file.
        limits: Limits of its size.
        stretch: See everything/io/images/bit_depth.py.

    Raises:
        ImageError: It cannot be read, in one line with the reason.
    """
    limits = limits or Limits()
    return decode_image(read_file(path, limits), printable(path), limits, stretch)


def read_file(path: Path, limits: Limits) -> bytes:
    """Return the content of a regular file within the limits; raises ImageError.

    Never waits: a FIFO or device that has an image's name is refused.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_file(os.fstat(descriptor), path, limits)
            with io.FileIO(descriptor, closefd=False) as file:
                return file.readall()
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: of a name that no file can have
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise _error(path, reason, "check that the file is there and may be read") from error


def decode_image(data: bytes, name: str, limits: Limits, stretch: bool = True) -> DecodedImage:
    """Return the image in the content of a file.

    Args:
        data: The content.
        name: What errors call the file.
        limits: Limits of its size.
        stretch: See everything/io/images/bit_depth.py.

    Raises:
        ImageError: It cannot be read, in one line with the reason.
    """
    if not data:
        raise _error(name, "the file is empty", ANOTHER_COPY)
    try:
        with _pillow_as_needed():
            return _decode(data, limits, stretch)
    except Refused as error:
        raise _error(name, *error.args) from error
    except MemoryError as error:
        raise _error(name, "not enough memory to decode it", "use fewer --workers") from error
    except Exception as error:
        # What decoders raise on broken files is an open set (OSError, SyntaxError, struct.error,
        # KeyError, ...); each of them means that this one image cannot be read.
        said = "" if isinstance(error, LookupError) else " ".join(str(error).split())
        reason = f"cannot be decoded ({said or type(error).__name__})"
        raise _error(name, reason, ANOTHER_COPY) from error


@contextmanager
def opened_image(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open an image with Pillow, HEIF included, without decoding it; raises what Pillow raises."""
    with _pillow_as_needed(), open_image(file, formats=_with_heif()) as image:
        yield image


def _error(name: Path | str, reason: str, way_out: str) -> ImageError:
    return ImageError(f"{printable(name)}: {printable(reason)}: {way_out}")


def _check_file(status: os.stat_result, path: Path, limits: Limits) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _error(path, "it is a folder", "give images, or name the folder as the input")
    if not stat.S_ISREG(status.st_mode):
        raise _error(path, "it is not a regular file", "copy what it gives into a file")
    if status.st_size > limits.max_bytes:
        size = f"{status.st_size:,} bytes are over the limit of {limits.max_bytes:,}"
        raise _error(path, size, "cut it into tiles")


def _decode(data: bytes, limits: Limits, stretch: bool) -> DecodedImage:
    notes: list[str] = []
    if data.startswith(_TIFF_SIGNATURES):
        from everything.io.images.tiff import image_first, is_beyond_pillow

        data = image_first(data, notes)
        if is_beyond_pillow(data):
            return _decode_with_tifffile(data, limits, notes, stretch)
    elif data.startswith(SIGNATURE):
        data = mended(data, notes)
    try:
        image = open_image(io.BytesIO(data), formats=_formats(data))
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF_SIGNATURES):
            return _decode_with_tifffile(data, limits, notes, stretch)
        known = "it is not an image in a known format, or its first bytes are broken"
        raise Refused(known, "convert it to JPEG or PNG") from error
    with image:
        check_size(image.width, image.height, limits)
        if image.format == "PNG":
            _check_sums(data)
        if _is_deep_and_planar(image):
            return _decode_with_tifffile(data, limits, notes, stretch)
        pixels = _loaded(image, data, notes)
        # Afterwards: PNG keeps EXIF behind the pixels, and TIFF turns itself upright on loading.
        orientation = _orientation(image, notes)
        rgb = to_rgb(pixels, notes, stretch)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        return DecodedImage(np.array(rgb), tuple(notes))


def _formats(data: bytes) -> tuple[str, ...]:
    is_heif = data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
    return _with_heif() if is_heif else _FORMATS


def _loaded(image: Image.Image, data: bytes, notes: list[str]) -> Image.Image:
    if image.format in ("JPEG", "MPO"):
        from everything.io.images.jpeg import load_jpeg

        return load_jpeg(image, data, notes)
    if image.format == "TIFF":
        from everything.io.images.tiff import check_deflate

        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
        check_deflate(tags, data)
        if image.mode == "L" and tags.get(_SAMPLES_PER_PIXEL, 1) > 1:
            notes.append(f"{tags[_SAMPLES_PER_PIXEL]} bands, the first is read")
    image.load()
    return image


def _check_sums(data: bytes) -> None:
    """Pillow decodes PNGs without their checksums: flipped bits would go unnoticed."""
    with open_image(io.BytesIO(data), formats=("PNG",)) as image:
        image.verify()


def _is_deep_and_planar(image: Image.Image) -> bool:
    """Pillow decodes 16-bit colour stored in planes as if it were 8-bit, without an error."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    deepest: int = max(tags.get(_BITS_PER_SAMPLE, (8,)))
    return deepest > 8 and bool(tags.get(_PLANAR, 1) == 2)


def _orientation(image: Image.Image, notes: list[str]) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:
        # EXIF comes from countless writers and its parser raises anything; images live without it.
        notes.append(f"EXIF ignored: {' '.join(str(error).split()) or type(error).__name__}")
        return 1
    if orientation in range(1, 9):
        return int(orientation)
    notes.append(f"EXIF orientation {orientation!r} ignored")
    return 1


def _decode_with_tifffile(
    data: bytes, limits: Limits, notes: list[str], stretch: bool
) -> DecodedImage:
    from everything.io.images.tiff import decode_tiff

    pixels = decode_tiff(data, limits, notes, stretch)
    return DecodedImage(pixels, tuple(notes))


@cache
def _with_heif() -> tuple[str, ...]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


_lock = threading.Lock()
_users = 0
_saved: tuple[int | None, bool] = (None, False)


@contextmanager
def _pillow_as_needed() -> Iterator[None]:
    """Pillow keeps its limits in globals. While any thread decodes, its own size limit gives way
    to ours, truncated files are errors whatever other libraries have set, and its warnings,
    which repeat what the result or the error says, are not shown."""
    global _users, _saved
    # Not undone: changes of filters by several threads cannot be nested. It is for Pillow alone.
    warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
    with _lock:
        if _users == 0:
            _saved = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = _saved
