"""Masks inside masks: a tree of wholes, parts and parts of parts."""

from __future__ import annotations

from collections.abc import Sequence

from everything.config import Level
from everything.core import rle
from everything.core.rle import Rle

LEVELS: tuple[Level, ...] = ("whole", "part", "subpart")
INSIDE = 0.9  # of a mask's area, and less than this in IoU: a twin is no part
MADE_OF = 0.5  # of a mask's area: from this on it is made of the masks in it
PHOTO = 0.8  # of the photo: what is larger, and made of others, is no object in it
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


def levels_of(masks: Sequence[Rle], scores: Sequence[float]) -> list[Level | None]:
    """Return for each mask of one image whether it is a whole, a part of one, or deeper inside.

    None is what is more than a whole: the photo, two objects taken as one. scores: predicted IoU.
    Trees of masks are cut where that is best: a mask is a whole, instead of those that it is made
    of, if its score is at least theirs, each by its area. What covers less than MADE_OF of a mask
    lies on it, and is never taken instead of it.
    """
    parents = parents_of(masks)
    areas: list[int] = rle.areas(masks).tolist()
    # As for parents, of equals the first row is the larger one.
    largest_first = sorted(range(len(masks)), key=lambda row: (-areas[row], row))
    below = [0.0] * len(masks)  # area of what lies directly in a mask
    worth = [0.0] * len(masks)  # of it, times its score
    is_whole = [False] * len(masks)
    for row in reversed(largest_first):
        made_of = below[row] >= MADE_OF * areas[row] > 0
        photo = masks[row]["size"][0] * masks[row]["size"][1]
        theirs = worth[row] / below[row] if made_of else 0.0
        is_whole[row] = not made_of or (scores[row] >= theirs and areas[row] < PHOTO * photo)
        parent = parents[row]
        if parent is not None:
            below[parent] += areas[row]
            worth[parent] += areas[row] * (scores[row] if is_whole[row] else theirs)
    levels: list[Level | None] = [None] * len(masks)
    for row in largest_first:
        parent = parents[row]
        above = None if parent is None else levels[parent]
        if above is None:
            levels[row] = "whole" if is_whole[row] else None
        else:
            levels[row] = "part" if above == "whole" else "subpart"
    return levels
