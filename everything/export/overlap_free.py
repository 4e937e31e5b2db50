"""Label maps without overlaps, for formats in which a pixel belongs to one mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.label_map import label_map
from everything.export.writer import ExportJob, LabelledImage

_ROWS = 256  # of a label map that are counted at a time


def pixels_of_labels(labels: NDArray[np.int32], most: int) -> list[int]:
    """Return the number of pixels of each label 0, 1, …, most in a label map (H, W)."""
    counts = np.zeros(most + 1, np.int64)
    for y in range(0, len(labels), _ROWS):
        counts += np.bincount(labels[y : y + _ROWS].ravel(), minlength=most + 1)
    found: list[int] = counts.tolist()
    return found


def flattened(image: LabelledImage, job: ExportJob) -> NDArray[np.int32]:
    """Return the label map of an image, and count how much of each mask is visible.

    Args:
        image: The image with its masks.
        job: Its fidelity counts the masks.

    Returns:
        Labels, int32 (H, W): 0, or 1 + the row of the smallest mask at the pixel.
    """
    labels = label_map(image.codes, image.size)
    seen = pixels_of_labels(labels, len(image.annotations))
    areas = rle.areas(image.codes).tolist()  # what annotations say of it may be anything
    for row, annotation in enumerate(image.annotations):
        part = seen[row + 1] / areas[row]
        job.fidelity.add(part, image.name, int(annotation.get("id", row)))
    return labels
