"""How much of the truth the contenders found in the photos that they were timed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from everything import rle
from everything.benchmark.contenders import Key
from everything.errors import InputError
from everything.evaluate import MIN_AREA, average_recall
from everything.marked import Marked, Names, compressed, read_marked, some_of
from everything.names import shown
from everything.rle import Rle

_Tree = dict[str, Any]


def marked_photos(truth: Path, split: str | None, photos: Sequence[str]) -> dict[str, Marked]:
    """Return the truth of photos by their names; raises InputError if it does not have all."""
    names, found = Names(photos), {}
    for photo in read_marked(truth, split, MIN_AREA):
        if key := names.find(photo.name):
            found[key] = photo
    if missing := [name for name in photos if name not in found]:
        raise InputError(
            f"{shown(truth)}: does not have {len(missing)} of the photos ({some_of(missing)}): "
            "time photos that it has"
        )
    return found


def recall_of(
    marked: Mapping[str, Marked], masks: Mapping[tuple[Key, str], list[Rle]]
) -> dict[Key, float]:
    """Return COCO's AR@1000 (everything/evaluate.py) of each contender that did all photos.

    marked: by the photos' names. masks: by contender and photo. NaN where the truth is empty.
    """
    images, truths = _truth(marked)
    recall = {}
    for key in dict.fromkeys(key for key, _ in masks):
        if all((key, name) in masks for name in marked):
            found = _found(masks[key, name] for name in marked)
            recall[key] = average_recall(images, truths, found)["1000"]
    return recall


def _truth(marked: Mapping[str, Marked]) -> tuple[list[_Tree], list[_Tree]]:
    images: list[_Tree] = []
    truths: list[_Tree] = []
    for number, photo in enumerate(marked.values(), 1):
        images.append({"id": number, "height": photo.size[0], "width": photo.size[1]})
        for row in photo.annotations:
            code = compressed(row["segmentation"], photo.size)
            about = {"id": len(truths) + 1, "image_id": number, "category_id": 1}
            crowd = {name: row.get(name, 0) for name in ("iscrowd", "ignore")}
            box = rle.boxes([code])[0].tolist()
            truths.append(about | crowd | {"segmentation": code, "area": row["area"], "bbox": box})
    return images, truths


def _found(of_photos: Iterable[list[Rle]]) -> list[_Tree]:
    return [
        # All count among the first 1000, whatever their order.
        {"image_id": number, "category_id": 1, "segmentation": code, "score": 1 / (1 + row)}
        for number, codes in enumerate(of_photos, 1)
        for row, code in enumerate(codes)
    ]
