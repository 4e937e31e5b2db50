"""GeoJSON: STEM.geojson, one feature a mask, in pixels of the photo (y down), as QuPath reads it.

Pixel i covers [i, i + 1). A mask of several parts is a MultiPolygon, holes are inner rings. No
position on Earth is known here: it is a plane of pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from everything.export.keyhole_polygons import thinned
from everything.export.pixel_polygons import Part, Ring, painted, parts_of
from everything.export.writer import CLASS, Job, JsonList, Labelled, Piece, iou

_NAMES = ("predicted_iou", "stability_score", "area", "parent_id")


def write(photos: Iterable[Labelled], job: Job) -> None:
    """Write one FeatureCollection a photo."""
    for photo in photos:
        about = json.dumps({"file_name": photo.name, "size": photo.size})
        with job.file(f"{photo.stem}.geojson").open("w", encoding="ascii") as file:
            file.write(f'{{"type":"FeatureCollection","photo":{about},"features":[\n')
            features = JsonList(file)
            for piece in photo.pieces():
                features.append(_feature(piece, photo, job))
            file.write("\n]}\n")
        job.place(photo, f"images/{photo.name}")


def _feature(piece: Piece, photo: Labelled, job: Job) -> dict[str, Any]:
    parts = [
        Part(thinned(shell, job.tolerance), [thinned(hole, job.tolerance) for hole in holes])
        for shell, holes in parts_of(piece.mask)
    ]
    again = painted(parts, (piece.mask.shape[0], piece.mask.shape[1]))
    job.tally.add(iou(again, piece.mask), photo.name, piece.id)
    polygons = [
        [_closed(ring, piece.corner) for ring in (part.shell, *part.holes)] for part in parts
    ]
    shape = ("Polygon", polygons[0]) if len(polygons) == 1 else ("MultiPolygon", polygons)
    names = {name: piece.annotation[name] for name in _NAMES if name in piece.annotation}
    about = {"objectType": "annotation", "classification": {"name": CLASS}}
    return {
        "type": "Feature",
        "id": piece.id,
        "geometry": dict(zip(("type", "coordinates"), shape, strict=True)),
        "properties": about | names,
    }


def _closed(ring: Ring, corner: tuple[int, int]) -> list[list[int]]:
    moved: list[list[int]] = (ring + np.array(corner)).tolist()
    return [*moved, moved[0]]
