"""Whether two programs found the same masks."""

from __future__ import annotations

from collections.abc import Sequence

from everything import rle
from everything.rle import Rle

SAME = 0.999  # IoU


def same_masks(a: Sequence[Rle], b: Sequence[Rle]) -> float:
    """Return which part of both sides' masks, of one image, have one on the other side at an IoU
    of at least 0.999; 1 if there are none at all."""
    if not a and not b:
        return 1.0
    if not a or not b:
        return 0.0
    same = rle.iou(a, b) >= SAME
    matched = int(same.any(1).sum()) + int(same.any(0).sum())
    return matched / (len(a) + len(b))
