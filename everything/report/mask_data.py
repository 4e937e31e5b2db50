"""The masks of an image as the page's script reads them, matched between results folders."""

from __future__ import annotations

from itertools import count
from typing import Any

from everything.config import Level
from everything.core import rle
from everything.core.matching import one_to_one
from everything.core.sa1b import Annotation
from everything.io.results.reader import Result
from everything.masks.drawing import PALETTE, colour_of

SAME = 0.5  # lowest IoU at which masks of two folders are matched


def script_rows(
    found: list[Result | None], levels: list[list[Level | None]]
) -> list[list[Any] | None]:
    """Return the masks of an image in each results folder.

    A mask that matches one of the first folder has its colour, its row there and their IoU; the
    others have further colours, and the row -1.

    Args:
        found: Result of the image in each folder, None where there is none.
        levels: What `levels_in` (everything/io/results/levels.py) returns for each, anything where
            there is no result.

    Returns:
        A list of masks for each folder, None where there is none.
    """
    first = next(result for result in found if result is not None)
    taken = max((colour_of(mask, row) for row, mask in enumerate(first.annotations)), default=-1)
    rows: list[list[Any] | None] = []
    for result, of_masks in zip(found, levels, strict=True):
        if result is None:
            rows.append(None)
            continue
        twins = {} if result is first else _matches(result, first)
        fresh = count(taken + 1)
        mine = []
        for row, mask in enumerate(result.annotations):
            twin, iou = twins.get(row, (-1, 0.0))
            if result is first:
                colour = colour_of(mask, row)
            else:
                colour = next(fresh) if twin < 0 else colour_of(first.annotations[twin], twin)
            mine.append(
                [*_row(row, mask, colour % PALETTE, twin, iou), of_masks[row], mask.get("category")]
            )
        rows.append(mine)
    return rows


def _matches(result: Result, first: Result) -> dict[int, tuple[int, float]]:
    """Row of the matching mask in another result, and their IoU, by row."""
    if result.size != first.size:
        return {}
    mine, theirs = ([a["segmentation"] for a in one.annotations] for one in (result, first))
    agreement = rle.iou(mine, theirs).numpy()
    return {i: (j, float(agreement[i, j])) for i, j in one_to_one(agreement, SAME)}


def _row(row: int, annotation: Annotation, colour: int, twin: int, shared: float) -> list[Any]:
    """A mask in the order that the page's script reads (masks.js)."""
    numbers = (annotation.get(name, 0.0) for name in ("predicted_iou", "stability_score"))
    iou, stability = (round(float(value), 4) for value in numbers)
    box = [round(float(value), 1) for value in annotation.get("bbox", ())]
    points = [[round(float(v), 1) for v in xy] for xy in annotation.get("point_coords", ())]
    name, area = int(annotation.get("id", row)), int(annotation["area"])
    code = annotation["segmentation"]["counts"]
    return [name, colour, iou, stability, area, box, points, code, twin, round(shared, 4)]
