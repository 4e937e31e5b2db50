"""CVAT for images 1.1: annotations.xml with masks as run lengths, row by row in their boxes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TextIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from everything.export.writer import ExportJob, LabelledImage

_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
<version>1.1</version>
<meta><task><name>everything</name><labels>"""
_LABEL = "<label><name>{}</name><type>mask</type><attributes></attributes></label>"


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write one XML file; smaller masks are above larger ones (z_order)."""
    path = job.file("annotations.xml")
    # The classes come first in the file and are known last.
    part = path.with_suffix(".images")
    with part.open("w", encoding="utf-8") as file:
        for image in images:
            height, width = image.size
            about = f'name={quoteattr(image.name)} width="{width}" height="{height}"'
            file.write(f'<image id="{image.number - 1}" {about}>\n')
            _write_masks(file, image, job)
            file.write("</image>\n")
            job.place(image, f"images/{image.name}")
    with path.open("w", encoding="utf-8") as file, part.open(encoding="utf-8") as written:
        labels = "".join(_LABEL.format(escape(one.name)) for one in job.classes.all())
        file.write(f"{_HEAD}{labels}</labels></task></meta>\n")
        shutil.copyfileobj(written, file)
        file.write("</annotations>\n")
    part.unlink()


def _write_masks(file: TextIO, image: LabelledImage, job: ExportJob) -> None:
    largest_first = sorted(image.annotations, key=lambda annotation: -annotation["area"])
    above = {id(annotation): z for z, annotation in enumerate(largest_first)}
    for piece in image.pieces():
        z = above[id(piece.annotation)]
        (h, w), (x, y) = piece.mask.shape, piece.corner
        label = quoteattr(job.classes.of(piece.annotation).name)
        runs = ", ".join(map(str, runs_of(piece.mask)))
        file.write(
            f'<mask label={label} source="auto" occluded="0" rle="{runs}" left="{x}" '
            f'top="{y}" width="{w}" height="{h}" z_order="{z}"></mask>\n'
        )
        job.fidelity.add_exact(1)


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of alternating runs of 0 and 1, row by row, starting with 0."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return np.diff(edges, prepend=0, append=flat.size).tolist()
