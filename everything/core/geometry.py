"""Views (crops of an image) and frames; all coordinate transforms are in this file.

Coordinates are (x, y) in pixels, x to the right, continuous: pixel i covers [i, i + 1). SAM scales
coordinates between sizes by the ratio of the sizes, and its prompt encoder adds half a pixel on the
model's canvas. Both are kept, so that prompts have the same positions as in the official code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]  # (height, width), px
Box = tuple[int, int, int, int]  # (x0, y0, x1, y1), px, x1 and y1 exclusive


@dataclass(frozen=True)
class View:
    """A rectangle of an image, the input of a model.

    Attributes:
        pixels: uint8 (h, w, 3) RGB.
        box: The rectangle in image px.
        depth: Crop layer; 0 is the whole image.
        image_size: (H, W) of the image.
    """

    pixels: NDArray[np.uint8]
    box: Box
    depth: int
    image_size: Size

    @property
    def size(self) -> Size:
        """Height and width in px."""
        return self.pixels.shape[0], self.pixels.shape[1]


def whole(image: NDArray[np.uint8]) -> View:
    """Return the view that is the whole image, uint8 (H, W, 3) RGB.

    Raises:
        ValueError: The array has another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"an image must be a uint8 array (height, width, 3) in RGB, "
            f"not {image.dtype} {image.shape}"
        )
    height, width = image.shape[:2]
    return View(image, (0, 0, width, height), 0, (height, width))


def crop_boxes(size: Size, layers: int, overlap_ratio: float) -> list[tuple[Box, int]]:
    """Return every crop of an image of (H, W) px with its layer, the whole image first.

    Layer i cuts 2^i x 2^i crops that overlap by `overlap_ratio` of the short side, halved with
    each layer (SAM, appendix "Automatic mask generation details"). Crops that would be empty on
    a tiny image are left out.
    """
    height, width = size
    boxes: list[tuple[Box, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        n = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / n))
        w = math.ceil((overlap * (n - 1) + width) / n)
        h = math.ceil((overlap * (n - 1) + height) / n)
        for i, j in product(range(n), range(n)):
            x, y = i * (w - overlap), j * (h - overlap)
            box = (x, y, min(x + w, width), min(y + h, height))
            if box[0] < box[2] and box[1] < box[3]:
                boxes.append((box, layer))
    return boxes


def views(image: NDArray[np.uint8], layers: int, overlap_ratio: float) -> Iterator[View]:
    """Yield the whole image, uint8 (H, W, 3) RGB, and its crops, each cut from the original."""
    full = whole(image)
    for (x0, y0, x1, y1), depth in crop_boxes(full.size, layers, overlap_ratio):
        yield View(image[y0:y1, x0:x1], (x0, y0, x1, y1), depth, full.size)


@dataclass(frozen=True)
class Frame:
    """The position of a view on a model's canvas.

    Attributes:
        view: (h, w) of the view.
        canvas: (hc, wc) of the square or rectangle that is the model's input.
        content: Where the view lies on the canvas, (x0, y0, x1, y1) canvas px; the rest is padding.
        resize: How logits of any resolution are mapped to the view. "two-step" resizes them to the
            canvas, crops the content and resizes that (SAM); "one-step" crops the content at the
            logits' own resolution and resizes once (SAM 2, NanoSAM).
        interpolation: The mode of every resize.
    """

    view: Size
    canvas: Size
    content: Box
    resize: Literal["two-step", "one-step"] = "two-step"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def to_canvas(self, xy: Tensor) -> Tensor:
        """Map points (..., 2) xy from view px to canvas px."""
        x0, y0, x1, y1 = self.content
        height, width = self.view
        scale = xy.new_tensor([(x1 - x0) / width, (y1 - y0) / height])
        return xy * scale + xy.new_tensor([x0, y0])

    def from_canvas(self, xy: Tensor) -> Tensor:
        """Map points (..., 2) xy from canvas px to view px."""
        x0, y0, x1, y1 = self.content
        height, width = self.view
        scale = xy.new_tensor([(x1 - x0) / width, (y1 - y0) / height])
        return (xy - xy.new_tensor([x0, y0])) / scale

    def to_view(self, logits: Tensor) -> Tensor:
        """Resize logits float32 (N, hl, wl) over the canvas to (N, h, w) over the view."""
        if len(logits) == 0:
            return logits.new_zeros(0, *self.view)
        if self.resize == "two-step":
            logits = self._resized(logits, self.canvas)
        low = (logits.shape[1], logits.shape[2])
        x0, y0, x1, y1 = _scaled(self.content, self.canvas, low)
        return self._resized(logits[:, y0:y1, x0:x1], self.view)

    def is_identity(self, logits: Tensor) -> bool:
        """Tell whether logits (N, hl, wl) already have one value per pixel of the view."""
        everywhere = self.content == (0, 0, self.canvas[1], self.canvas[0])
        return everywhere and self.view == self.canvas == tuple(logits.shape[1:])

    def along(self, axis: int) -> Frame:
        """Return the frame of one axis (0 vertical, 1 horizontal), as of a view one pixel wide."""
        start, end = self.content[1 - axis], self.content[3 - axis]
        return replace(
            self,
            view=(self.view[axis], 1),
            canvas=(self.canvas[axis], 1),
            content=(0, start, 1, end),
        )

    def _resized(self, logits: Tensor, size: Size) -> Tensor:
        if tuple(logits.shape[1:]) == size:
            return logits
        return F.interpolate(logits[None], size, mode=self.interpolation, align_corners=False)[0]


def _scaled(box: Box, size: Size, to: Size) -> Box:
    (height, width), (h, w) = size, to
    x0, x1 = (int(x * w / width) for x in (box[0], box[2]))
    y0, y1 = (int(y * h / height) for y in (box[1], box[3]))
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def padded_frame(view: Size, side: int) -> Frame:
    """Return SAM's frame: longest side scaled to `side` px, the rest padded right and below."""
    height, width = view
    scale = side / max(view)
    # The short side of a 1 x 60,000 strip would round to 0.
    h, w = (max(1, int(length * scale + 0.5)) for length in (height, width))
    return Frame(view, (side, side), (0, 0, w, h))


def stretched_frame(
    view: Size, side: int, interpolation: Literal["bilinear", "bicubic"] = "bilinear"
) -> Frame:
    """Return the frame of models that stretch a view to a square of `side` px (SAM 2)."""
    return Frame(view, (side, side), (0, 0, side, side), "one-step", interpolation)


def truncated_frame(view: Size, side: int) -> Frame:
    """Return NanoSAM's frame: SAM's with the short side rounded down and "one-step" resizing."""
    height, width = view
    aspect = width / height
    w, h = (side, int(side / aspect)) if aspect >= 1 else (int(side * aspect), side)
    return Frame(view, (side, side), (0, 0, max(1, w), max(1, h)), "one-step")
