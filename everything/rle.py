"""COCO run-length codes: the only door to pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from torch import Tensor

from everything import ops
from everything.view import Size


class Rle(TypedDict):
    """A mask as COCO's compressed run lengths: size [height, width] and ASCII counts."""

    size: list[int]
    counts: str


def encode(masks: Tensor, origin: tuple[int, int] = (0, 0), size: Size | None = None) -> list[Rle]:
    """Return the codes of masks bool (N, h, w) that lie at `origin` (x, y) of an image of `size`.

    Without a size the masks are the whole image. Only each mask's box is looked at, so that a
    small mask of a huge image costs little.
    """
    height, width = size or (masks.shape[1], masks.shape[2])
    x, y = origin
    codes = []
    for mask, (x0, y0, x1, y1) in zip(masks, ops.mask_to_box(masks).tolist(), strict=True):
        inside = mask[y0 : y1 + 1, x0 : x1 + 1].cpu().numpy()
        runs = _run_lengths(inside, (x + x0, y + y0), (height, width))
        codes.append(_text(coco.frPyObjects({"size": [height, width], "counts": runs}, 0, 0)))
    return codes


def _run_lengths(mask: NDArray[np.bool_], origin: tuple[int, int], size: Size) -> list[int]:
    """Lengths of alternating runs of 0 and 1, column by column, of an image with one mask in it."""
    (x, y), (height, width) = origin, size
    steps = np.diff(np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    column, row = steps.nonzero()
    edges = (column + x) * height + row + y  # start, end, start, end, ... in column order
    # A run down to the last pixel of a column goes on at the first pixel of the next one.
    seam = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate([seam, seam + 1]))
    lengths: list[int] = np.diff(edges, prepend=0, append=height * width).tolist()
    return lengths


def decode(rles: Sequence[Rle], size: Size) -> NDArray[np.bool_]:
    """Return the masks bool (N, H, W) of codes of one image of (H, W) px."""
    if not rles:
        return np.zeros((0, *size), np.bool_)
    masks: NDArray[np.uint8] = coco.decode(list(rles))
    return masks.transpose(2, 0, 1).astype(np.bool_)


def areas(rles: Sequence[Rle]) -> Tensor:
    """Return the areas of the masks, int64 (N,) px."""
    return torch.as_tensor(coco.area(list(rles)).astype(np.int64)) if rles else _none()


def iou(a: Sequence[Rle], b: Sequence[Rle], within: bool = False) -> Tensor:
    """Return the IoU of each mask of a with each of b, float64 (len(a), len(b)).

    With `within` the intersection is divided by the area of a's mask alone: how much of a lies
    inside b.
    """
    if not a or not b:
        return torch.zeros(len(a), len(b), dtype=torch.float64)
    return torch.as_tensor(coco.iou(list(a), list(b), [int(within)] * len(b)))


def _text(code: dict[str, Any]) -> Rle:
    height, width = code["size"]
    return {"size": [int(height), int(width)], "counts": code["counts"].decode("ascii")}


def _none() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)
