"""The hierarchy of masks: a tree of objects, parts and subparts."""

from __future__ import annotations

from collections.abc import Sequence

from everything.config import Level
from everything.core import rle
from everything.core.rle import Rle
from everything.core.sa1b import Annotation
from everything.errors import ConfigError

LEVELS: tuple[Level, ...] = ("whole", "part", "subpart")
INSIDE = 0.9  # share of a part's area inside its parent; with an IoU this high it is a duplicate
MADE_OF = 0.5  # a mask of whose area the masks in it cover this share consists of them
IMAGE = 0.8  # a mask that consists of others and covers this share of the image is no object
_ROWS = 256  # rows of the overlap matrix that are in memory at a time


def parents_of(masks: Sequence[Rle]) -> list[int | None]:
    """Return the row of each mask's parent, or None, for the masks of one image.

    The parent is the smallest larger mask that contains at least INSIDE of the mask. Since parents
    are larger than their children, the links form trees.
    """
    areas = rle.areas(masks)
    # By area; of equal masks the first one counts as the larger.
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
    """Return the level of each mask of one image: whole object, part or subpart.

    None is a mask of more than one object: the image itself, or two objects in one mask. A mask
    that consists of smaller ones is a whole object, instead of them, if its score is at least their
    mean score, weighted by area. Masks that cover less than MADE_OF of a larger one lie on it and
    never replace it.

    Args:
        masks: The masks.
        scores: Predicted IoU of each.
    """
    parents = parents_of(masks)
    areas: list[int] = rle.areas(masks).tolist()
    # As for parents, the first of equal masks counts as the larger.
    largest_first = sorted(range(len(masks)), key=lambda row: (-areas[row], row))
    below = [0.0] * len(masks)  # area of the direct children
    worth = [0.0] * len(masks)  # the same, weighted by score
    is_whole = [False] * len(masks)
    for row in reversed(largest_first):
        made_of = below[row] >= MADE_OF * areas[row] > 0
        image = masks[row]["size"][0] * masks[row]["size"][1]
        theirs = worth[row] / below[row] if made_of else 0.0
        is_whole[row] = not made_of or (scores[row] >= theirs and areas[row] < IMAGE * image)
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


def annotation_levels(annotations: Sequence[Annotation]) -> list[Level | None]:
    """Return the level of each annotation of one image; one without predicted IoU has 1."""
    scores = [float(one.get("predicted_iou", 1)) for one in annotations]
    return levels_of([one["segmentation"] for one in annotations], scores)


def check_level(level: str) -> None:
    """Check the name of a level.

    Raises:
        ConfigError: There is no such level.
    """
    if level not in ("all", *LEVELS):
        raise ConfigError(f"level {level!r}: choose one of all, {', '.join(LEVELS)}")


def at_level(annotations: Sequence[Annotation], level: Level) -> list[Annotation]:
    """Return the annotations of one image that are of a level."""
    if level == "all":
        return list(annotations)
    levels = annotation_levels(annotations)
    return [one for one, its in zip(annotations, levels, strict=True) if its == level]
