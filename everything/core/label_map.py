"""Maps without overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everything.core import rle
from everything.core.geometry import Size
from everything.core.rle import Rle

Mask = NDArray[np.bool_]


def label_map(codes: Sequence[Rle], size: Size, full: bool = False) -> NDArray[np.int32]:
    """Return a map (H, W) without overlaps: 0, or 1 + the row of the smallest mask there.

    Small masks lie on top of large ones, so that parts stay visible on their wholes. full: pixels
    without a mask take the number of the nearest one, so that 0 is left only where there are no
    masks at all. One mask is held at a time, inside its box.
    """
    labels = np.zeros(size, np.int32)
    for row in rle.areas(codes).argsort(descending=True, stable=True).tolist():
        mask, (x, y) = rle.cut(codes[row])
        height, width = mask.shape
        labels[y : y + height, x : x + width][mask] = row + 1
    if full and labels.any():
        nearest = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        labels = labels[tuple(nearest)]
    return labels


def contours_of_labels(labels: NDArray[np.integer[Any]]) -> Mask:
    """Return where a label map (H, W) differs from its right or lower neighbour, bool (H, W)."""
    contour = np.zeros(labels.shape, np.bool_)
    contour[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    contour[:-1] |= labels[:-1] != labels[1:]
    return contour
