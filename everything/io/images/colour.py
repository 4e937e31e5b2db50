"""Any of Pillow's modes to 8-bit sRGB, as a viewer would show it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from everything.io.images.bit_depth import to_8_bit

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0


def to_rgb(image: Image.Image, notes: list[str], stretch: bool = True) -> Image.Image:
    """Return a loaded image as mode RGB.

    An embedded colour profile is converted to sRGB; one that cannot be used is left out. Alpha is
    laid over white. Values of more than 8 bits are scaled, see bit_depth.

    Args:
        image: Of any mode.
        notes: Gets what was guessed or left out.
        stretch: See bit_depth.
    """
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey_of_deep(image, notes, stretch)).convert("RGB")
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


def _grey_of_deep(image: Image.Image, notes: list[str], stretch: bool) -> NDArray[np.uint8]:
    values: NDArray[np.generic] = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits = 16
    if image.mode.startswith("I;16"):
        # A 12-bit TIFF has a mode of 16 bits.
        values, bits = values.astype(np.uint16), tags.get(_BITS_PER_SAMPLE, (16,))[0]
    elif image.format == "PPM":  # Pillow has scaled these to 16 bits, in a mode of 32
        values = values.astype(np.uint16)
    is_inverted = tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE
    return to_8_bit(values, bits, notes, stretch=stretch, is_inverted=is_inverted)


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
