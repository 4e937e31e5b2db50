"""Overlays: masks drawn over their image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from everything.core import rle
from everything.core.sa1b import Annotation

PALETTE = 4096
Pixels = NDArray[np.uint8]
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_FEW = 8  # masks are only sampled if this many times fewer pixels are shown than their box has
_FILL, _CONTOUR = 0.35, 0.95  # opacities: the image stays visible
Box = tuple[int, int, int, int]


@cache
def palette(n: int = PALETTE) -> Pixels:
    """Return n colours uint8 (n, 3) sRGB, equally vivid; neighbours differ clearly.

    CIE LCh: hues a golden angle apart, three lightnesses in turn.
    """
    from skimage.color import lab2rgb, lch2lab

    i = np.arange(n)
    lightness = np.array([72.0, 60.0, 82.0])[i % 3]
    lch = np.stack([lightness, np.full(n, 58.0), (i * _GOLDEN_ANGLE) % (2 * np.pi)], 1)
    rgb: Pixels = np.round(255 * lab2rgb(lch2lab(lch))).astype(np.uint8)
    return rgb


def scaled_down(image: Pixels, longest: int) -> Pixels:
    """Return an image uint8 (H, W, 3) whose longer side is at most `longest` px."""
    height, width = image.shape[:2]
    if max(height, width) <= longest:
        return image
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def colour_of(annotation: Annotation, row: int) -> int:
    """Return the row of the palette for a mask, which depends on its id only."""
    return int(annotation.get("id", row)) % PALETTE


def overlay(photo: Pixels, annotations: Sequence[Annotation], fill: float = _FILL) -> Pixels:
    """Draw masks and their contours over an image, smaller masks on top of larger ones.

    One mask is decoded at a time; besides, there are two maps of the image's size.

    Args:
        photo: The image, uint8 (H, W, 3) RGB. It may be smaller than the one that was labelled:
            masks are sampled at its pixels.
        annotations: SA-1B annotations.
        fill: Opacity inside the contours, 0 to 1.

    Returns:
        A new image, uint8 (H, W, 3) RGB.
    """
    size = (photo.shape[0], photo.shape[1])
    inside, contour = np.full(size, -1, np.int16), np.full(size, -1, np.int16)
    thickness = max(1, round(max(size) / 900))
    for colour, mask, (x0, y0, x1, y1) in _largest_first(annotations, size):
        edge = mask & ~ndimage.binary_erosion(mask, iterations=thickness, border_value=1)
        inside[y0:y1, x0:x1][mask] = colour
        contour[y0:y1, x0:x1][mask] = -1  # a larger mask's contour ends below this one
        contour[y0:y1, x0:x1][edge] = colour
    drawn = _blended(photo, inside, fill)
    return _blended(drawn, contour, _CONTOUR)


def _largest_first(
    annotations: Sequence[Annotation], size: tuple[int, int]
) -> Iterator[tuple[int, NDArray[np.bool_], Box]]:
    """Colour, pixels and box of every mask; the box is a pixel larger than the mask."""
    order = sorted(range(len(annotations)), key=lambda i: -float(annotations[i]["area"]))
    boxes = rle.boxes([annotation["segmentation"] for annotation in annotations]).astype(int)
    for row in order:
        code = annotations[row]["segmentation"]
        x, y, w, h = boxes[row].tolist()
        rows, y0 = _samples(code["size"][0], size[0], y, h)
        columns, x0 = _samples(code["size"][1], size[1], x, w)
        if len(rows) * len(columns) * _FEW < w * h:
            mask = rle.sampled(code, rows, columns)
        else:
            mask = rle.cut(code)[0][np.ix_(rows - y, columns - x)]
        if mask.any():
            # One more pixel on each side, except at the border of the image, so that the edge of
            # the box does not hide contours from the erosion.
            sides = [(int(y0 > 0), int(y0 + len(rows) < size[0])),
                     (int(x0 > 0), int(x0 + len(columns) < size[1]))]  # fmt: skip
            y0, x0 = y0 - sides[0][0], x0 - sides[1][0]
            mask = np.pad(mask, sides)
            box = (x0, y0, x0 + mask.shape[1], y0 + mask.shape[0])
            yield colour_of(annotations[row], row), mask, box


def _samples(of: int, n: int, first: int, length: int) -> tuple[NDArray[np.intp], int]:
    """Nearest-neighbour sampling of one axis, limited to a mask's box.

    `n` shown pixels sample `of` original pixels, at the centres of n equal parts.

    Returns:
        The sampled original pixels within `length` pixels from `first` on, and the index of the
        first shown pixel among them.
    """
    shown_at = ((np.arange(n) + 0.5) * of / n).astype(np.intp)
    start, end = np.searchsorted(shown_at, [first, first + length])
    return shown_at[start:end], int(start)


def _blended(photo: Pixels, colours: NDArray[np.int16], opacity: float) -> Pixels:
    where = colours >= 0
    tint = palette()[colours[where]].astype(np.float32)
    result = photo.copy()
    mixed = photo[where] * np.float32(1 - opacity) + tint * np.float32(opacity)
    result[where] = np.round(mixed).astype(np.uint8)
    return result
