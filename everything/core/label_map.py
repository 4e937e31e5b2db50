"""Label maps: masks without overlaps."""

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
    """Return a label map int32 (H, W): 0, or 1 + the row of the smallest mask at the pixel.

    Small masks lie on top of large ones, so that parts stay visible on their objects. One mask at a
    time is decoded, inside its box.

    Args:
        codes: The masks.
        size: (H, W) of the image.
        full: Give pixels without a mask the label of the nearest one; then 0 remains only if there
            are no masks at all.
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
    """Return the pixels of a label map (H, W) that differ from the right or lower neighbour.

    The result is bool (H, W).
    """
    contour = np.zeros(labels.shape, np.bool_)
    contour[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    contour[:-1] |= labels[:-1] != labels[1:]
    return contour
