"""Whether two programs found the same masks."""

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
    """How far two sides' masks of an image agree, over the masks of both.

    same: which part has a counterpart on the other side at an IoU of at least 0.999. mean_iou:
    of each with the nearest on the other side.
    """

    same: float
    mean_iou: float

    @classmethod
    def mean(cls, parts: Sequence[Self]) -> Self:
        """Return the mean of at least one."""
        return cls(fmean(part.same for part in parts), fmean(part.mean_iou for part in parts))


def agreement(a: Sequence[Rle], b: Sequence[Rle]) -> Agreement:
    """Return how far the masks of one image agree: wholly if there are none at all."""
    if not a and not b:
        return Agreement(1.0, 1.0)
    if not a or not b:
        return Agreement(0.0, 0.0)
    iou = rle.iou(a, b).numpy()
    nearest = np.concatenate([iou.max(1), iou.max(0)])
    return Agreement(float((nearest >= SAME).mean()), float(nearest.mean()))
