"""Label maps without overlaps, for formats in which a pixel belongs to one mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everything.core.label_map import label_map
from everything.export.writer import ExportJob, LabelledImage


def flattened(image: LabelledImage, job: ExportJob, most: int = 2**24 - 1) -> NDArray[np.int32]:
    """Return the label map of an image, and count how much of each mask is visible.

    Args:
        image: The image with its masks.
        job: Its fidelity counts the masks.
        most: The largest label that the format holds; if there are more masks, those with the
            highest predicted IoU are kept.

    Returns:
        Labels, int32 (H, W): 0, or 1 + the row of the smallest mask at the pixel.
    """
    rows = np.arange(len(image.annotations))
    if len(rows) > most:
        scores = [-annotation.get("predicted_iou", 0.0) for annotation in image.annotations]
        rows = np.sort(np.argsort(scores, kind="stable")[:most])
        job.fidelity.left_out += len(image.annotations) - most
    codes = image.codes
    labels = label_map([codes[row] for row in rows], image.size)
    seen = np.bincount(labels.ravel(), minlength=len(rows) + 1)
    for number, row in enumerate(rows.tolist(), 1):
        annotation = image.annotations[row]
        part = int(seen[number]) / int(annotation["area"])
        job.fidelity.add(part, image.name, int(annotation.get("id", row)))
    return labels
