"""Truth as COCO has annotations, and labels found by the names of its photos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.label_map import contours_of_labels
from everything.core.rle import compressed
from everything.core.sa1b import Annotation, check_annotations, size_of
from everything.errors import InputError
from everything.io.datasets.label_maps import Truth, read_truth
from everything.io.images.sources import SUFFIXES
from everything.io.results.reader import Results

_Tree = dict[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """A photo's truth. annotations: as COCO has them, but for ids. contours: bool (K, H, W)."""

    name: str
    size: tuple[int, int]
    annotations: list[_Tree]
    contours: NDArray[np.bool_] | None = None


def read_ground_truth(
    truth: Path, split: str | None, min_area: int, contours: bool = True
) -> Iterator[GroundTruth]:
    """Yield the photos of truth in any known format (see evaluate.evaluate).

    split: of a data pack, the only one. min_area: px below which a segment of a label map is left
    out. contours: with them, where they are known. Raises InputError if no format fits.
    """
    if truth.is_file():
        return read_coco(truth)
    if (truth / "annotations").is_dir() or is_sa1b(truth):
        return _sa1b(Results(truth))
    return _label_maps(truth, split, min_area, contours)


def is_sa1b(folder: Path) -> bool:
    """Whether a folder's first JSON is in SA-1B's format."""
    first = next(iter(sorted(folder.rglob("*.json"))), None)
    if first is None:
        return False
    try:
        content = json.loads(first.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = printable(f"not a JSON file ({type(error).__name__}: {error})")
        raise InputError(f"{printable(first)}: {reason}: get another copy of it") from error
    return isinstance(content, dict) and {"image", "annotations"} <= content.keys()


def read_coco(file: Path) -> Iterator[GroundTruth]:
    """Yield a COCO or LVIS file's photos as they stand, with areas, polygons and crowds, so that
    scores are COCO's to the digit. Raises InputError if it is another file."""
    try:
        content = json.loads(file.read_bytes())
        of: dict[Any, list[_Tree]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            of[annotation["image_id"]].append(annotation)
        for image in content["images"]:
            size = size_of(image)
            rows = [_coco_row(row, size) for row in of[image["id"]]]
            yield GroundTruth(_name(image), size, rows)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = printable(f"not a COCO file ({type(error).__name__}: {error})")
        raise InputError(f"{printable(file)}: {reason}: give one with masks") from error


def _coco_row(row: _Tree, size: Size) -> _Tree:
    code = compressed(row["segmentation"], size)
    flags = {name: int(bool(row.get(name))) for name in ("iscrowd", "ignore")}
    checked = row | flags | {"segmentation": code}
    check_annotations([checked], size)
    return checked


def _name(image: _Tree) -> str:
    """LVIS names photos by COCO's addresses, http://images.cocodataset.org/val2017/NAME.jpg."""
    if "file_name" in image:
        return str(image["file_name"])
    return "/".join(str(image["coco_url"]).rsplit("/", 2)[-2:])


def _sa1b(truth: Results) -> Iterator[GroundTruth]:
    for key in truth.files:
        result = truth.read(key)
        # Its own name for ours, whatever the annotation file says, as for the labels.
        yield GroundTruth(key, result.size, [truth_row(a) for a in result.annotations])


def truth_row(annotation: Annotation) -> _Tree:
    """Return what of a result is truth."""
    names = ("segmentation", "area", "iscrowd")
    return {name: annotation[name] for name in names if name in annotation}


def _label_maps(
    path: Path, split: str | None, min_area: int, with_contours: bool
) -> Iterator[GroundTruth]:
    for photo in label_maps(path, split):
        rows = [_row(mask) for mask in segments_of(photo, min_area)]
        size = (photo.photo.shape[0], photo.photo.shape[1])
        contours = None
        if with_contours and photo.complete:
            contours = np.stack([contours_of_labels(one) for one in photo.labels])
        yield GroundTruth(photo.name, size, rows, contours)


def label_maps(path: Path, split: str | None) -> Iterator[Truth]:
    """Return what label_maps.py reads; raises InputError if no format fits."""
    try:
        return read_truth(path, split)
    except ValueError as error:
        raise InputError(str(error)) from error


def segments_of(photo: Truth, min_area: int) -> Iterator[NDArray[np.bool_]]:
    """Yield every annotator's segments of at least min_area px."""
    for labels in photo.labels:
        for number in np.flatnonzero(np.bincount(labels.ravel()) >= min_area):
            if number > 0:
                yield labels == number


def _row(mask: NDArray[np.bool_]) -> _Tree:
    code = rle.encode(mask, (0, 0), (mask.shape[0], mask.shape[1]))
    return {"segmentation": code, "area": int(mask.sum())}


class Names:
    """Finds the labels of a photo by its path, its path without suffix, or its stem alone."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.used: set[str] = set()
        self._by: list[dict[str, list[str]]] = [{}, {}, {}]
        for key in keys:
            for level, form in enumerate(_forms(key)):
                self._by[level].setdefault(form, []).append(key)

    def find(self, name: str) -> str | None:
        """Return the key of its labels, None if there are none; raises InputError if a name fits
        several."""
        for found, form in zip(self._by, _forms(name), strict=True):
            keys = found.get(form, [])
            if len(keys) > 1:
                raise InputError(
                    f"{printable(name)}: fits several labelled photos ({some_of(keys)})"
                )
            if keys:
                return keys[0]
        return None


def _forms(name: str) -> tuple[str, str, str]:
    path = PurePosixPath(name)
    bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return name, str(bare), bare.name


def some_of(names: list[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(printable(name) for name in names[:5]) + more
