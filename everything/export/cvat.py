"""CVAT for images 1.1: annotations.xml with masks as run lengths, row by row inside their boxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from everything.export.writer import CLASS, Job, Labelled

_HEAD = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
<version>1.1</version>
<meta><task><name>everything</name><labels><label><name>{CLASS}</name><type>mask</type>\
<attributes></attributes></label></labels></task></meta>
"""


def write(photos: Iterable[Labelled], job: Job) -> None:
    """Write one XML file; small masks lie above large ones (z_order)."""
    with job.file("annotations.xml").open("w", encoding="utf-8") as file:
        file.write(_HEAD)
        for photo in photos:
            height, width = photo.size
            about = f'name={quoteattr(photo.name)} width="{width}" height="{height}"'
            file.write(f'<image id="{photo.number - 1}" {about}>\n')
            _write_masks(file, photo, job)
            file.write("</image>\n")
            job.place(photo, f"images/{photo.name}")
        file.write("</annotations>\n")


def _write_masks(file: TextIO, photo: Labelled, job: Job) -> None:
    areas = np.array([annotation["area"] for annotation in photo.annotations])
    above = np.argsort(np.argsort(-areas, kind="stable")).tolist()
    for piece, z in zip(photo.pieces(), above, strict=True):
        (h, w), (x, y) = piece.mask.shape, piece.corner
        runs = ", ".join(map(str, runs_of(piece.mask)))
        file.write(
            f'<mask label="{CLASS}" source="auto" occluded="0" rle="{runs}" left="{x}" '
            f'top="{y}" width="{w}" height="{h}" z_order="{z}"></mask>\n'
        )
    job.tally.add_exact(len(photo.annotations))


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs of 0 and 1 in turn, 0 first, row by row."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return np.diff(edges, prepend=0, append=flat.size).tolist()
