"""COCO panoptic: panoptic.json, and panoptic/STEM.png with ids as R + 256 G + 65536 B.

A pixel belongs to the smallest mask there, so that parts are above whole objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from everything.export.coco import HEAD, about
from everything.export.overlap_free import flattened, pixels_of_labels
from everything.export.writer import ExportJob, LabelledImage, json_lists


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write one PNG per image and one JSON file; hidden masks are in neither."""
    head = HEAD.copy()
    with json_lists(job.file("panoptic.json"), head, "images", "annotations") as (
        image_records,
        image_rows,
    ):
        for image in images:
            labels = flattened(image, job)
            image_records.append(about(image))
            image_rows.append(
                {
                    "image_id": image.number,
                    "file_name": f"{image.stem}.png",
                    "segments_info": _segments(labels, image, job),
                }
            )
            # The bytes of a label, the least significant first, are R, G, B and one that is 0.
            pixels = labels.astype("<i4", copy=False)
            colours = Image.frombuffer("RGBX", image.size[::-1], pixels, "raw", "RGBX", 0, 1)
            colours.convert("RGB").save(job.file(f"panoptic/{image.stem}.png"))
            job.place(image, f"images/{image.name}")
        head["categories"] = [asdict(one) | {"isthing": 1} for one in job.classes.all()]


def _segments(
    labels: NDArray[np.int32], image: LabelledImage, job: ExportJob
) -> list[dict[str, Any]]:
    """COCO's record of each visible segment: area and box of its visible part."""
    areas = pixels_of_labels(labels, len(image.annotations))
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if place is not None:
            (y0, y1), (x0, x1) = ((side.start, side.stop) for side in place)
            box = [x0, y0, x1 - x0, y1 - y0]
            mask = image.annotations[number - 1]
            about = {"id": number, "category_id": job.classes.of(mask).id,
                     "iscrowd": mask.get("iscrowd", 0)}  # fmt: skip
            found.append(about | {"area": areas[number], "bbox": box})
    return found
