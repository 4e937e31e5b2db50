"""Recall of the cases on the ground truth of the images that they were timed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from everything.benchmark.types import Key
from everything.core import rle
from everything.core.file_names import printable
from everything.core.rle import Rle, compressed
from everything.errors import InputError
from everything.evaluation.average_recall import AverageRecall
from everything.evaluation.mask_scores import MIN_AREA
from everything.io.datasets.ground_truth import (
    GroundTruth,
    NameMatcher,
    first_names,
    read_ground_truth,
)

_Tree = dict[str, Any]


def ground_truth_of(
    truth: Path, split: str | None, photos: Sequence[str]
) -> dict[str, GroundTruth]:
    """Return the ground truth of images by their names.

    Raises:
        InputError: If it does not cover all images.
    """
    names, found = NameMatcher(photos), {}
    for photo in read_ground_truth(truth, split, MIN_AREA):
        if key := names.find(photo.name):
            found[key] = photo
    if missing := [name for name in photos if name not in found]:
        raise InputError(
            f"{printable(truth)}: has no ground truth for {len(missing)} of the images "
            f"({first_names(missing)}): benchmark on images that it has"
        )
    return found


def recall_of(
    marked: Mapping[str, GroundTruth], masks: Mapping[tuple[Key, str], list[Rle]]
) -> dict[Key, float]:
    """Return COCO's AR@1000 (everything/evaluation/mask_scores.py) of the cases.

    Args:
        marked: Ground truth by image name.
        masks: Masks by case and image name.

    Returns:
        The recall of each case that segmented all images; NaN if the ground truth is empty.
    """
    recall = {}
    for key in dict.fromkeys(key for key, _ in masks):
        if all((key, name) in masks for name in marked):
            counts = AverageRecall()
            for name, photo in marked.items():
                counts.add(photo.size, _truth(photo), _found(masks[key, name]))
            recall[key] = counts.scores()["1000"]
    return recall


def _truth(photo: GroundTruth) -> list[_Tree]:
    truths = []
    for row in photo.annotations:
        code = compressed(row["segmentation"], photo.size)
        box = rle.boxes([code])[0].tolist()
        about = {"area": row["area"], "iscrowd": row.get("iscrowd", 0), "bbox": box}
        truths.append(about | {"segmentation": code})
    return truths


def _found(codes: list[Rle]) -> list[_Tree]:
    # All count among the first 1000, whatever their order.
    return [{"segmentation": code, "score": 1 / (1 + row)} for row, code in enumerate(codes)]
