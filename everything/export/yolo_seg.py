"""YOLO's segmentation: images/NAME, labels/STEM.txt and data.yaml, for ultralytics' trainer.

A row is one outline without holes or parts; everything/export/keyhole_polygons.py says how both
are kept. Coordinates are centres of pixels, so that truncating them gives the pixel.

ultralytics finds the labels of an image by its path, and does not see images that its loader cannot
read. What it would not see is converted to PNG where that helps, else left out and counted
(everything/export/yolo_images.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import yaml

from everything.export.keyhole_polygons import filled, outline_of
from everything.export.writer import ExportJob, LabelledImage, iou
from everything.export.yolo_images import YoloStems, place


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write one text file per image; an image without masks has an empty one."""
    stems = YoloStems()
    for image in images:
        stem = stems.of(image)
        # Without an image, ultralytics does not see its labels.
        if job.images != "none" and not place(image, stem, job):
            job.fidelity.left_out += len(image.annotations)
            continue
        if job.images == "none":
            job.original(image)  # counts what has changed since
        rows = "".join(_rows(image, job))
        job.file(f"labels/{stem}.txt").write_text(rows, encoding="ascii")
    names = {row: one.name for row, one in enumerate(job.classes.all())}
    # Without `path`, ultralytics looks beside the file, not in the working directory.
    about = {"train": "images", "val": "images", "names": names}
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    job.file("data.yaml").write_text(text, encoding="utf-8")


def _rows(image: LabelledImage, job: ExportJob) -> Iterable[str]:
    height, width = image.size
    seen: set[str] = set()  # of equal rows, ultralytics keeps one
    for piece in image.pieces():
        outline = outline_of(piece.mask, job.tolerance)
        parts = (outline + np.array(piece.corner) + 0.5) / np.array([width, height])
        corners = " ".join(f"{value:.6g}" for value in parts.ravel().tolist())
        row = f"{job.classes.row(piece.annotation)} {corners}\n"
        if row in seen:
            job.fidelity.left_out += 1
            continue
        seen.add(row)
        again = filled(outline, (piece.mask.shape[0], piece.mask.shape[1]))
        job.fidelity.add(iou(again, piece.mask), image.name, piece.id)
        yield row
