"""Any of Pillow's modes to 8-bit sRGB, as a viewer would show it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_BITS_PER_SAMPLE = 258
_DIM = 1 / 16


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Return a loaded image as mode RGB; says in `notes` what was guessed or left out.

    An embedded colour profile is converted to sRGB; one that cannot be used is left out. Alpha,
    never premultiplied here, is laid over white. 16-bit values are scaled by their full range.
    """
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey_of_deep(image, notes)).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    if not image.has_transparency_data:
        base = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
        return _to_srgb(base, image, notes)
    # Premultiplied modes have one way out each, to their straight twin.
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
    rgba = image.convert(straight).convert("RGBA")
    base = rgba.getchannel("R") if image.mode in ("LA", "La") else rgba.convert("RGB")
    return _over_white(_to_srgb(base, image, notes), rgba.getchannel("A"))


def scale_16_bit(values: NDArray[np.uint16], bits: int, notes: list[str]) -> NDArray[np.uint8]:
    """Return values of `bits` bits as 8 bits, by their full range and not by what is used of it."""
    brightest = int(values.max(initial=0))
    if 0 < brightest < _DIM * 2**bits:
        notes.append(f"very dark: its brightest value is {brightest} of {2**bits - 1}")
    if bits < 8:
        scaled: NDArray[np.float64] = values.astype(np.float64) * (255 / (2**bits - 1))
        return scaled.astype(np.uint8)
    high_byte: NDArray[np.uint16] = np.right_shift(values, bits - 8)
    return high_byte.astype(np.uint8)


def stretch(values: NDArray[np.generic], notes: list[str]) -> NDArray[np.uint8]:
    """Return numbers without a natural range as 8 bits, darkest to brightest; floats within
    [0, 1] are taken as they are. NaN and infinities become black and white."""
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    else:
        notes.append(f"values from {low:g} to {high:g} stretched to 8 bits")
    unit = (numbers - low) / max(high - low, np.finfo(np.float64).tiny)
    unit = np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0)
    return np.round(255 * np.clip(unit, 0, 1)).astype(np.uint8)


def _grey_of_deep(image: Image.Image, notes: list[str]) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if image.format == "PPM":  # Pillow has scaled these to 16 bits, in a mode of 32
        return scale_16_bit(values.astype(np.uint16), 16, notes)
    if image.mode.startswith("I;16"):
        # A 12-bit TIFF has a mode of 16 bits.
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        return scale_16_bit(values.astype(np.uint16), bits, notes)
    return stretch(values, notes)


def _from_lab(image: Image.Image) -> Image.Image:
    return _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))


def _to_srgb(base: Image.Image, source: Image.Image, notes: list[str]) -> Image.Image:
    """Convert by the profile embedded in the source, if it has one that fits."""
    embedded = source.info.get("icc_profile")
    if not embedded:
        return base.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if ImageCms.getProfileDescription(profile).startswith("sRGB"):
            return base.convert("RGB")  # and not through tables that round
        return _converted(base, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"colour profile ignored: {' '.join(str(error).split())}")
        return base.convert("RGB")


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # None is for in-place conversion
    return converted


def _over_white(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    if alpha.getextrema() == (255, 255):
        return colour
    return Image.composite(colour, Image.new("RGB", colour.size, "white"), alpha)
