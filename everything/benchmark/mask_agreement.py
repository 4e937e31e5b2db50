"""How far the masks of two programs agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

import numpy as np

from everything.core import rle
from everything.core.rle import Rle

SAME = 0.999  # IoU


@dataclass(frozen=True)
class Agreement:
    """Agreement of two sets of masks of an image, over the masks of both.

    Args:
        same: Share of masks with a counterpart in the other set at an IoU of at least 0.999.
        mean_iou: Mean IoU of each mask with the most similar one of the other set.
    """

    same: float
    mean_iou: float

    @classmethod
    def mean(cls, parts: Sequence[Self]) -> Self:
        """Return the mean over at least one image."""
        return cls(fmean(part.same for part in parts), fmean(part.mean_iou for part in parts))


def agreement(a: Sequence[Rle], b: Sequence[Rle]) -> Agreement:
    """Return how far two sets of masks of one image agree; two empty sets agree fully."""
    if not a and not b:
        return Agreement(1.0, 1.0)
    if not a or not b:
        return Agreement(0.0, 0.0)
    iou = rle.iou(a, b).numpy()
    nearest = np.concatenate([iou.max(1), iou.max(0)])
    return Agreement(float((nearest >= SAME).mean()), float(nearest.mean()))
