"""Results folders for tests, written as jobs write them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from everything.config import Recipe
from everything.core.file_names import image_id
from everything.core.stage_timer import COUNTS, STAGES
from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.io.storage.local import Folder

Masks = Sequence[NDArray[np.bool_]]


def recipe(sampler: str = "grid-16") -> Recipe:
    return Recipe(variant="toy", sampler={"name": sampler}, version="0", weights="")


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    """A disc around (x, y), px."""
    y, x = np.ogrid[: size[0], : size[1]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def records(masks: Masks, scores: Sequence[float] | None = None) -> list[dict[str, Any]]:
    """SA-1B's records of masks (H, W); predicted IoU falls from .95 if no scores are given."""
    codes = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    found = []
    for i, (mask, code) in enumerate(zip(masks, codes, strict=True)):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        edges = (columns, rows) if mask.any() else ([0], [0])
        x, y = (float(e[0]) for e in edges)
        found.append(
            {
                "id": i,
                "segmentation": code | {"counts": code["counts"].decode()},
                "bbox": [x, y, float(edges[0][-1]) - x, float(edges[1][-1]) - y],
                "area": int(mask.sum()),
                "predicted_iou": scores[i] if scores else 0.95 - 0.1 * i,
                "stability_score": max(0.0, 0.99 - 0.05 * i),
                "crop_box": [0.0, 0.0, float(mask.shape[1]), float(mask.shape[0])],
                "point_coords": [[x, y]],
            }
        )
    return found


def write_labels(
    out: Path,
    photos: Path,
    masks: Mapping[str, Masks],
    *,
    sampler: str = "grid-16",
    scores: Sequence[float] | None = None,
    failures: Mapping[str, str] | None = None,
    hashes: Mapping[str, int] | None = None,
) -> Path:
    """Write a results folder for the images in `photos`; missing images are made, in grey.

    hashes: what the manifest has of images' contents, by name.
    """
    store, ledger = Store(out, recipe(sampler)), Manifest(Folder(out))
    timing = dict.fromkeys(STAGES, 0.25) | {"total": 1.75} | dict.fromkeys(COUNTS, 4)
    with store.opened():
        for name, found in masks.items():
            size = (found[0].shape[0], found[0].shape[1])
            if not (photos / name).exists():
                (photos / name).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", size[::-1], (90, 90, 90)).save(photos / name)
            store.put(name, size, records(found, scores), lambda: timing)
            row = row_of(store, photos, name)
            row.source_hash = (hashes or {}).get(name)
            ledger.append(row)
        for name, reason in (failures or {}).items():
            row = row_of(store, photos, name)
            row.fail(reason)
            ledger.append(row)
        ledger.compact()
    return out


def row_of(store: Store, photos: Path, name: str) -> Row:
    """Return the manifest row of an image that is done."""
    now = time.time()
    return Row(
        name=name,
        status="done",
        image_id=image_id(name),
        digest=store.digest,
        host="here",
        attempt=1,
        started=now,
        finished=now,
        folder=str(photos),
    )
