"""COCO run-length codes: the only door to pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from torch import Tensor

from everything.view import Size


class Rle(TypedDict):
    """A mask as COCO's compressed run lengths: size [height, width] and ASCII counts."""

    size: list[int]
    counts: str


def encode(mask: NDArray[np.bool_], origin: tuple[int, int], size: Size) -> Rle:
    """Return the code of a mask bool (h, w) that lies at `origin` (x, y) of an image of (H, W) px.

    Only the mask's own pixels are looked at, so that a small one of a huge image costs little.
    """
    height, width = size
    runs = _run_lengths(mask, origin, size)
    return _text(coco.frPyObjects({"size": [height, width], "counts": runs}, height, width))


def _run_lengths(mask: NDArray[np.bool_], origin: tuple[int, int], size: Size) -> list[int]:
    """Lengths of alternating runs of 0 and 1, column by column, of an image with one mask in it."""
    (x, y), (height, width) = origin, size
    row, column = (mask[1:] != mask[:-1]).nonzero()
    top, bottom = mask[:1].nonzero()[1], mask[-1:].nonzero()[1]
    # Where runs start and end, in turn once they are in column order.
    edges = np.concatenate(
        [
            (column + x) * height + row + 1 + y,
            (top + x) * height + y,
            (bottom + x) * height + y + len(mask),
        ]
    )
    edges.sort()
    # A run down to the last pixel of a column goes on at the first pixel of the next one.
    seam = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate([seam, seam + 1]))
    lengths: list[int] = np.diff(edges, prepend=0, append=height * width).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def decode(rles: Sequence[Rle], size: Size) -> NDArray[np.bool_]:
    """Return the masks bool (N, H, W) of codes of one image of (H, W) px."""
    if not rles:
        return np.zeros((0, *size), np.bool_)
    masks: NDArray[np.uint8] = coco.decode(list(rles))
    return masks.transpose(2, 0, 1).astype(np.bool_)


def areas(rles: Sequence[Rle]) -> Tensor:
    """Return the areas of the masks, int64 (N,) px."""
    # pycocotools 2.0.11 under numpy 2 fails on more than 255 at once.
    parts = [coco.area(list(rles[i : i + 255])) for i in range(0, len(rles), 255)]
    return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64))


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
