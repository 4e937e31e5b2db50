"""Pascal VOC's segmentation: SegmentationObject/STEM.png, SegmentationClass/STEM.png, labelmap.txt.

A pixel belongs to the smallest mask there. The palette holds 254 objects (255 stands for "void"):
of more masks in one image, those with the highest predicted IoU are kept and the others counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everything.export.overlap_free import flattened
from everything.export.writer import CLASS, ExportJob, LabelledImage

MOST = 254


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write two PNGs per image, and the list of images."""
    red, green, blue = palette()[1].tolist()
    job.file("labelmap.txt").write_text(
        f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{CLASS}:{red},{green},{blue}::\n"
    )
    with job.file("ImageSets/Segmentation/default.txt").open("w", encoding="utf-8") as names:
        for image in images:
            objects = flattened(image, job, MOST).astype(np.uint8)
            _save(objects, job, f"SegmentationObject/{image.stem}.png")
            _save((objects > 0).astype(np.uint8), job, f"SegmentationClass/{image.stem}.png")
            names.write(f"{image.stem}\n")
            suffix = PurePosixPath(image.name).suffix
            job.place(image, f"JPEGImages/{image.stem}{suffix}")


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
