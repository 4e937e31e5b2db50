"""The level of each mask of written results: whole object, part, subpart."""

from __future__ import annotations

from collections.abc import Sequence

from everything.config import Level
from everything.core.mask_hierarchy import LEVELS, annotation_levels
from everything.core.sa1b import Annotation
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Result


def level_of_all(result: Result, keep: MaskFilter) -> Level:
    """Return the level to which a result was limited, when it was labelled or now; else "all"."""
    if keep.level != "all":
        return keep.level
    output = result.recipe.get("output")
    level: Level = output.get("level", "all") if isinstance(output, dict) else "all"
    return level if level in LEVELS else "all"


def levels_in(result: Result, keep: MaskFilter) -> list[Level | None]:
    """Return the level of each mask of a result (everything/core/mask_hierarchy.py)."""
    return levels_or_limit(result.annotations, level_of_all(result, keep))


def levels_or_limit(annotations: Sequence[Annotation], limit: Level) -> list[Level | None]:
    """Return the level of each mask of an image whose masks were limited to a level, or to "all".

    Without their wholes, parts would pass for whole objects: if they were limited to a level, all
    masks are of that one.
    """
    return annotation_levels(annotations) if limit == "all" else [limit] * len(annotations)
