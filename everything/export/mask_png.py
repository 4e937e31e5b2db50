"""What segment_anything's scripts/amg.py writes: for each image a folder with a PNG per mask.

STEM/0.png, STEM/1.png, … are the masks, 0 or 255, of the image's size; STEM/metadata.csv has a row
for each, with its class in a last column where masks have classes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everything.core.sa1b import Annotation
from everything.export.writer import ExportJob, LabelledImage, Piece

_BOX = ("x0", "y0", "w", "h")
COLUMNS = (
    "id",
    "area",
    *(f"bbox_{side}" for side in _BOX),
    "point_input_x",
    "point_input_y",
    "predicted_iou",
    "stability_score",
    *(f"crop_box_{side}" for side in _BOX),
)
CLASS = "category"


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write the folders; masks are exact."""
    for image in images:
        has_classes = job.classes.known or any(CLASS in mask for mask in image.annotations)
        with job.file(f"{image.stem}/metadata.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow([*COLUMNS, CLASS] if has_classes else COLUMNS)
            for number, piece in enumerate(image.pieces()):
                pixels = Image.fromarray(_whole(piece, image))
                pixels.save(job.file(f"{image.stem}/{number}.png"))
                named = [job.classes.of(piece.annotation).name] if has_classes else []
                rows.writerow([*_row(number, piece.annotation, image), *named])
                job.fidelity.add_exact(1)
        job.place(image, f"images/{image.name}")


def _whole(piece: Piece, image: LabelledImage) -> NDArray[np.uint8]:
    (x, y), (h, w) = piece.corner, piece.mask.shape
    pixels = np.zeros(image.size, np.uint8)
    np.multiply(piece.mask.view(np.uint8), 255, out=pixels[y : y + h, x : x + w])
    return pixels


def _row(number: int, annotation: Annotation, image: LabelledImage) -> Sequence[float | str]:
    """A row; what the annotation does not have is empty, and the crop the whole image."""
    point = (annotation.get("point_coords") or [["", ""]])[0]
    crop = annotation.get("crop_box", [0, 0, image.size[1], image.size[0]])
    return [
        number,
        annotation["area"],
        *annotation.get("bbox", [""] * 4),
        *point,
        annotation.get("predicted_iou", ""),
        annotation.get("stability_score", ""),
        *crop,
    ]
