"""COCO: annotations/instances_default.json, masks as compressed run lengths, or as polygons.

COCO's polygons have no holes: a hole is joined to the ring around it by a bridge of no width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from everything.core import rle
from everything.core.rle import compressed
from everything.core.sa1b import Annotation
from everything.export.keyhole_polygons import bridged, thinned
from everything.export.writer import ExportJob, LabelledImage, json_lists
from everything.masks.polygons import parts_of

HEAD: dict[str, Any] = {"info": {"description": "made by `everything export`"}, "licenses": []}


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write one JSON file; the boxes are COCO's own (SA-1B's are a pixel smaller)."""
    path = job.file("annotations/instances_default.json")
    number = 0
    head = HEAD.copy()
    with json_lists(path, head, "images", "annotations") as (image_records, annotations):
        for image in images:
            image_records.append(about(image))
            for annotation, shape, box in _shapes(image, job):
                number += 1
                row = {"id": number, "image_id": image.number, "segmentation": shape, "bbox": box}
                annotations.append(row | _about_mask(annotation, job))
            job.place(image, f"images/default/{image.name}")
        head["categories"] = [asdict(category) for category in job.classes.all()]


def about(image: LabelledImage) -> dict[str, Any]:
    """Return COCO's record of an image."""
    height, width = image.size
    return {"id": image.number, "file_name": image.name, "width": width, "height": height}


def _about_mask(annotation: Annotation, job: ExportJob) -> dict[str, Any]:
    row = {
        "category_id": job.classes.of(annotation).id,
        "area": annotation["area"],
        "iscrowd": annotation.get("iscrowd", 0),
    }
    names = ("predicted_iou", "stability_score", "parent_id")
    return row | {name: annotation[name] for name in names if name in annotation}


def _shapes(image: LabelledImage, job: ExportJob) -> Iterator[tuple[Annotation, Any, list[float]]]:
    """Each annotation, its run lengths or polygons, and its box."""
    if job.polygons:
        yield from _polygons(image, job)
        return
    job.fidelity.add_exact(len(image.annotations))
    boxes = rle.boxes(image.codes).tolist()
    yield from zip(image.annotations, image.codes, boxes, strict=True)


def _polygons(
    image: LabelledImage, job: ExportJob
) -> Iterator[tuple[Annotation, list[list[float]], list[float]]]:
    for piece in image.pieces():
        code = piece.annotation["segmentation"]
        polygons: list[list[float]] = []
        for shell, holes in parts_of(piece.mask):
            rings = [thinned(ring, job.tolerance) for ring in (shell, *holes)]
            corners = bridged(rings) + np.array(piece.corner)
            polygons.append(corners.ravel().astype(float).tolist())
        again = rle.iou([compressed(polygons, image.size)], [code]).item()
        job.fidelity.add(again, image.name, piece.id)
        yield piece.annotation, polygons, rle.boxes([code])[0].tolist()
