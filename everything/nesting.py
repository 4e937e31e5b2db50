"""Masks inside masks: a tree of wholes, parts and parts of parts."""

from __future__ import annotations

from collections.abc import Sequence

from everything import rle
from everything.config import Level
from everything.rle import Rle

LEVELS: tuple[Level, ...] = ("whole", "part", "subpart")
INSIDE = 0.9  # of a mask's area, and less than this in IoU: a twin is no part
_ROWS = 256  # of the matrix of overlaps that are held


def parents_of(masks: Sequence[Rle]) -> list[int | None]:
    """Return for each mask of one image the row of its parent: the smallest larger mask with at
    least INSIDE of it inside; None for masks that are part of nothing.

    Parents are larger than their children, so the links are trees.
    """
    areas = rle.areas(masks)
    # By area, and of equals the first row is the larger one.
    larger_first = areas.argsort(descending=True, stable=True)
    rank = larger_first.argsort()
    found: list[int | None] = []
    for start in range(0, len(masks), _ROWS):
        block = masks[start : start + _ROWS]
        part = rle.iou(block, masks, within=True)
        own, theirs = areas[start : start + len(block), None].double(), areas[None].double()
        shared = part * own
        twin = shared >= INSIDE * (own + theirs - shared)
        is_above = rank[None] < rank[start : start + len(block), None]
        is_parent = (part >= INSIDE) & ~twin & is_above & (own > 0)
        ranks = rank.expand_as(is_parent).masked_fill(~is_parent, -1)
        best = ranks.max(1).values.tolist()
        found += [None if r < 0 else int(larger_first[r]) for r in best]
    return found


def levels_of(masks: Sequence[Rle]) -> list[Level]:
    """Return for each mask whether it is a whole (part of nothing), a part of one, or deeper."""
    parents = parents_of(masks)
    areas = rle.areas(masks)
    depths = [0] * len(masks)
    for row in areas.argsort(descending=True, stable=True).tolist():
        parent = parents[row]
        depths[row] = 0 if parent is None else depths[parent] + 1
    return [LEVELS[min(depth, 2)] for depth in depths]
