"""Pascal VOC's segmentation: SegmentationObject/STEM.png, SegmentationClass/STEM.png, labelmap.txt.

A pixel belongs to the smallest mask there. The palette holds 254 objects (255 stands for "void"):
of more masks in one image, those with the highest predicted IoU are kept and the others counted. It
also holds 254 classes; masks of further ones are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everything.export.overlap_free import flattened
from everything.export.writer import ExportJob, LabelledImage

MOST = 254


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write two PNGs per image, and the list of images."""
    with job.file("ImageSets/Segmentation/default.txt").open("w", encoding="utf-8") as names:
        for image in images:
            kept = _within_palette(image, job)
            objects = flattened(kept, job).astype(np.uint8)
            classes = np.zeros(256, np.uint8)
            classes[1 : len(kept.annotations) + 1] = [
                1 + job.classes.row(mask) for mask in kept.annotations
            ]
            _save(objects, job, f"SegmentationObject/{image.stem}.png")
            of_class = np.asarray(cv2.LUT(objects, classes), np.uint8)
            _save(of_class, job, f"SegmentationClass/{image.stem}.png")
            names.write(f"{image.stem}\n")
            suffix = PurePosixPath(image.name).suffix
            job.place(image, f"JPEGImages/{image.stem}{suffix}")
    colours = palette()[1 : MOST + 1].tolist()
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    for one, (red, green, blue) in zip(job.classes.all(), colours, strict=False):
        lines.append(f"{one.name}:{red},{green},{blue}::")
    job.file("labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _within_palette(image: LabelledImage, job: ExportJob) -> LabelledImage:
    """Leave out masks beyond those, and of classes beyond those, that the palette holds."""
    masks = [mask for mask in image.annotations if job.classes.row(mask) < MOST]
    if len(masks) > MOST:
        scores = [-mask.get("predicted_iou", 0.0) for mask in masks]
        best = np.sort(np.argsort(scores, kind="stable")[:MOST]).tolist()
        masks = [masks[row] for row in best]
    job.fidelity.left_out += len(image.annotations) - len(masks)
    return replace(image, annotations=masks)


def palette() -> NDArray[np.uint8]:
    """Return VOC's colours uint8 (256, 3): the bits of the index, distributed over R, G and B."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((numbers >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def _save(labels: NDArray[np.uint8], job: ExportJob, name: str) -> None:
    image = Image.fromarray(labels).convert("P")
    image.putpalette(palette().tobytes())
    image.save(job.file(name))
