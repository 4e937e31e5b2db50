"""YOLO's segmentation: images/NAME, labels/STEM.txt and data.yaml, for ultralytics' trainer.

A row is one outline without holes or parts; everything/export/keyhole_polygons.py says how both
are kept. Coordinates are centres of pixels, so that cutting them off leaves the pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from everything.export.keyhole_polygons import filled, outline_of
from everything.export.writer import CLASS, Job, Labelled, iou


def write(photos: Iterable[Labelled], job: Job) -> None:
    """Write one text file a photo; a photo without masks has an empty one."""
    job.file("data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames:\n  0: {CLASS}\n")
    for photo in photos:
        rows = "".join(_rows(photo, job))
        job.file(f"labels/{photo.stem}.txt").write_text(rows, encoding="ascii")
        job.place(photo, f"images/{photo.stem}{PurePosixPath(photo.name).suffix}")


def _rows(photo: Labelled, job: Job) -> Iterable[str]:
    height, width = photo.size
    for piece in photo.pieces():
        outline = outline_of(piece.mask, job.tolerance)
        again = filled(outline, (piece.mask.shape[0], piece.mask.shape[1]))
        job.tally.add(iou(again, piece.mask), photo.name, piece.id)
        parts = (outline + np.array(piece.corner) + 0.5) / np.array([width, height])
        yield "0 " + " ".join(f"{value:.6g}" for value in parts.ravel().tolist()) + "\n"
