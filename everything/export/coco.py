"""COCO: annotations/instances_default.json, masks as compressed run lengths, or as polygons.

COCO's polygons have no holes: a hole is joined to the ring around it by a bridge of no width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from everything.core import rle
from everything.core.rle import compressed
from everything.export.keyhole_polygons import bridged, thinned
from everything.export.pixel_polygons import parts_of
from everything.export.writer import CLASS, Job, Labelled, json_lists

CATEGORY = {"id": 1, "name": CLASS, "supercategory": ""}
HEAD = {
    "info": {"description": "made by `everything export`: masks without classes"},
    "licenses": [],
    "categories": [CATEGORY],
}


def write(photos: Iterable[Labelled], job: Job) -> None:
    """Write one JSON file; the boxes are COCO's own (SA-1B's are a pixel smaller)."""
    path = job.file("annotations/instances_default.json")
    number = 0
    with json_lists(path, HEAD, "images", "annotations") as (images, annotations):
        for photo in photos:
            images.append(about(photo))
            boxes = rle.boxes(photo.codes).tolist()
            shapes = _polygons(photo, job) if job.polygons else photo.codes
            if not job.polygons:
                job.tally.add_exact(len(boxes))
            for annotation, shape, box in zip(photo.annotations, shapes, boxes, strict=True):
                number += 1
                annotations.append(_row(number, photo, annotation, shape, box))
            job.place(photo, f"images/default/{photo.name}")


def about(photo: Labelled) -> dict[str, Any]:
    """Return COCO's record of a photo."""
    height, width = photo.size
    return {"id": photo.number, "file_name": photo.name, "width": width, "height": height}


def _row(
    number: int, photo: Labelled, annotation: dict[str, Any], shape: Any, box: list[float]
) -> dict[str, Any]:
    row = {
        "id": number,
        "image_id": photo.number,
        "category_id": 1,
        "segmentation": shape,
        "area": annotation["area"],
        "bbox": box,
        "iscrowd": 0,
    }
    names = ("predicted_iou", "stability_score", "parent_id")
    return row | {name: annotation[name] for name in names if name in annotation}


def _polygons(photo: Labelled, job: Job) -> list[list[list[float]]]:
    found = []
    for piece, code in zip(photo.pieces(), photo.codes, strict=True):
        polygons: list[list[float]] = []
        for shell, holes in parts_of(piece.mask):
            rings = [thinned(ring, job.tolerance) for ring in (shell, *holes)]
            corners = bridged(rings) + np.array(piece.corner)
            polygons.append(corners.ravel().astype(float).tolist())
        again = rle.iou([compressed(polygons, photo.size)], [code]).item()
        job.tally.add(again, photo.name, piece.id)
        found.append(polygons)
    return found
