"""Maps without overlaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everything import rle
from everything.rle import Rle
from everything.view import Size


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
