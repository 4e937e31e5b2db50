"""Label maps without overlaps, for formats in which a pixel belongs to one mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.label_map import label_map
from everything.export.writer import ExportJob, LabelledImage


def flattened(image: LabelledImage, job: ExportJob) -> NDArray[np.int32]:
    """Return the label map of an image, and count how much of each mask is visible.

    Args:
        image: The image with its masks.
        job: Its fidelity counts the masks.

    Returns:
        Labels, int32 (H, W): 0, or 1 + the row of the smallest mask at the pixel.
    """
    labels = label_map(image.codes, image.size)
    seen = np.bincount(labels.ravel(), minlength=len(image.annotations) + 1).tolist()
    areas = rle.areas(image.codes).tolist()  # what annotations say of it may be anything
    for row, annotation in enumerate(image.annotations):
        part = seen[row + 1] / areas[row]
        job.fidelity.add(part, image.name, int(annotation.get("id", row)))
    return labels
