"""GeoJSON: STEM.geojson, one feature per mask, in pixels of the image (y down), as QuPath reads it.

Pixel i covers [i, i + 1). A mask of several parts is a MultiPolygon, holes are inner rings. The
coordinates are pixels, not positions on Earth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from everything.export.keyhole_polygons import thinned
from everything.export.writer import ExportJob, JsonList, LabelledImage, Piece, iou
from everything.masks.polygons import Part, Ring, painted, parts_of

_NAMES = ("predicted_iou", "stability_score", "area", "parent_id")


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write one FeatureCollection per image."""
    for image in images:
        about = json.dumps({"file_name": image.name, "size": image.size})
        with job.file(f"{image.stem}.geojson").open("w", encoding="ascii") as file:
            file.write(f'{{"type":"FeatureCollection","photo":{about},"features":[\n')
            features = JsonList(file)
            for piece in image.pieces():
                features.append(_feature(piece, image, job))
            file.write("\n]}\n")
        job.place(image, f"images/{image.name}")


def _feature(piece: Piece, image: LabelledImage, job: ExportJob) -> dict[str, Any]:
    parts = [
        Part(thinned(shell, job.tolerance), [thinned(hole, job.tolerance) for hole in holes])
        for shell, holes in parts_of(piece.mask)
    ]
    again = painted(parts, (piece.mask.shape[0], piece.mask.shape[1]))
    job.fidelity.add(iou(again, piece.mask), image.name, piece.id)
    polygons = [
        [_closed(ring, piece.corner) for ring in (part.shell, *part.holes)] for part in parts
    ]
    shape = ("Polygon", polygons[0]) if len(polygons) == 1 else ("MultiPolygon", polygons)
    names = {name: piece.annotation[name] for name in _NAMES if name in piece.annotation}
    about = {
        "objectType": "annotation",
        "classification": {"name": job.classes.of(piece.annotation).name},
    }
    return {
        "type": "Feature",
        "id": piece.id,
        "geometry": dict(zip(("type", "coordinates"), shape, strict=True)),
        "properties": about | names,
    }


def _closed(ring: Ring, corner: tuple[int, int]) -> list[list[int]]:
    moved: list[list[int]] = (ring + np.array(corner)).tolist()
    return [*moved, moved[0]]
