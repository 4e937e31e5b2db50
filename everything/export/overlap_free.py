"""Photos without overlaps, for formats in which a pixel has one mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everything.core.label_map import label_map
from everything.export.writer import Job, Labelled


def flattened(photo: Labelled, job: Job, most: int = 2**24 - 1) -> NDArray[np.int32]:
    """Return the map (H, W) of a photo: 0, or 1 + the row of the smallest mask there.

    most: the largest number that the format holds; of more masks the best by predicted IoU stay.
    Counts how much of each mask can be seen.
    """
    rows = np.arange(len(photo.annotations))
    if len(rows) > most:
        scores = [-annotation.get("predicted_iou", 0.0) for annotation in photo.annotations]
        rows = np.sort(np.argsort(scores, kind="stable")[:most])
        job.tally.left_out += len(photo.annotations) - most
    codes = photo.codes
    labels = label_map([codes[row] for row in rows], photo.size)
    seen = np.bincount(labels.ravel(), minlength=len(rows) + 1)
    for number, row in enumerate(rows.tolist(), 1):
        annotation = photo.annotations[row]
        part = int(seen[number]) / int(annotation["area"])
        job.tally.add(part, photo.name, int(annotation.get("id", row)))
    return labels
