"""YOLO's segmentation: images/NAME, labels/STEM.txt and data.yaml, for ultralytics' trainer.

A row is one outline without holes or parts; everything/export/keyhole_polygons.py says how both
are kept. Coordinates are centres of pixels, so that truncating them gives the pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
import yaml

from everything.export.keyhole_polygons import filled, outline_of
from everything.export.writer import ExportJob, LabelledImage, iou


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write one text file per image; an image without masks has an empty one."""
    for image in images:
        rows = "".join(_rows(image, job))
        job.file(f"labels/{image.stem}.txt").write_text(rows, encoding="ascii")
        job.place(image, f"images/{image.stem}{PurePosixPath(image.name).suffix}")
    names = {row: one.name for row, one in enumerate(job.classes.all())}
    # Without `path`, ultralytics looks beside the file, not in the working directory.
    about = {"train": "images", "val": "images", "names": names}
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    job.file("data.yaml").write_text(text, encoding="utf-8")


def _rows(image: LabelledImage, job: ExportJob) -> Iterable[str]:
    height, width = image.size
    for piece in image.pieces():
        outline = outline_of(piece.mask, job.tolerance)
        again = filled(outline, (piece.mask.shape[0], piece.mask.shape[1]))
        job.fidelity.add(iou(again, piece.mask), image.name, piece.id)
        parts = (outline + np.array(piece.corner) + 0.5) / np.array([width, height])
        row = job.classes.row(piece.annotation)
        yield f"{row} " + " ".join(f"{value:.6g}" for value in parts.ravel().tolist()) + "\n"
