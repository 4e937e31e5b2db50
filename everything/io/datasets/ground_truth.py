"""Ground truth of any known format as COCO's annotations, and the labels of each of its images."""

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
from everything.core.label_map import contours_of_labels
from everything.core.sa1b import Annotation, check_annotations, size_of
from everything.errors import InputError, reason_of
from everything.io.datasets.coco import read_coco
from everything.io.datasets.label_maps import LabelledImage, read_labelled_images
from everything.io.images.sources import SUFFIXES
from everything.io.results.reader import Results

_Tree = dict[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of one image.

    Attributes:
        name: path of the image, relative to its folder.
        size: (H, W) in px.
        annotations: with COCO's keys, without ids; `segmentation` is compressed run lengths.
        contours: bool (K, H, W), one map for each annotator; None where the whole image was not
            annotated.
    """

    name: str
    size: tuple[int, int]
    annotations: list[_Tree]
    contours: NDArray[np.bool_] | None = None


def read_ground_truth(
    truth: Path, split: str | None, min_area: int, contours: bool = True
) -> Iterator[GroundTruth]:
    """Yield the images of ground truth in any known format.

    Args:
        truth: see `everything.evaluation.mask_scores.evaluate`.
        split: the part of a data pack to read; None for all of it.
        min_area: segments of label maps that are smaller, in px, are left out.
        contours: whether to compute contours where they are known.

    Raises:
        InputError: if no format fits, or one of the images is not valid.
    """
    if truth.is_file():
        return read_annotations(truth)
    if (truth / "annotations").is_dir() or is_sa1b(truth):
        return _sa1b(Results(truth))
    return _from_label_maps(truth, split, min_area, contours)


def is_sa1b(folder: Path) -> bool:
    """Return whether a folder's first JSON is in SA-1B's format."""
    first = next(iter(sorted(folder.rglob("*.json"))), None)
    if first is None:
        return False
    try:
        content = json.loads(first.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = printable(f"not a JSON file ({type(error).__name__}: {reason_of(error)})")
        raise InputError(f"{printable(first)}: {reason}: get another copy of it") from error
    return isinstance(content, dict) and {"image", "annotations"} <= content.keys()


def read_annotations(file: Path) -> Iterator[GroundTruth]:
    """Yield the images of a COCO or LVIS file with the areas, polygons and crowds that it has, so
    that scores are COCO's to the digit.

    Raises:
        InputError: if it is not a COCO file, or one of its annotations is not valid.
    """
    for image in read_coco(file):
        flags = [
            {name: int(bool(row.get(name))) for name in ("iscrowd", "ignore")}
            for row in image.annotations
        ]
        rows = [row | flag for row, flag in zip(image.annotations, flags, strict=True)]
        try:
            size = size_of({"height": image.size[0], "width": image.size[1]})
            if image.skipped:
                raise ValueError(image.skipped[0])
            check_annotations(rows, size)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{printable(file)}: {printable(f'{image.name}: {reason_of(error)}')}: "
                "correct or remove the annotation"
            ) from error
        yield GroundTruth(image.name, size, rows)


def _sa1b(truth: Results) -> Iterator[GroundTruth]:
    for key in truth.files:
        result = truth.read(key)
        # Like the labels, named by the file, whatever image it names inside.
        yield GroundTruth(key, result.size, [ground_truth_row(a) for a in result.annotations])


def ground_truth_row(annotation: Annotation) -> _Tree:
    """Return those fields of a result's annotation that are ground truth."""
    names = ("segmentation", "area", "iscrowd")
    return {name: annotation[name] for name in names if name in annotation}


def _from_label_maps(
    path: Path, split: str | None, min_area: int, with_contours: bool
) -> Iterator[GroundTruth]:
    for image in read_labelled_images(path, split):
        rows = [_row(mask) for mask in segments_of(image, min_area)]
        size = (image.pixels.shape[0], image.pixels.shape[1])
        contours = None
        if with_contours and image.complete:
            contours = np.stack([contours_of_labels(one) for one in image.labels])
        yield GroundTruth(image.name, size, rows, contours)


def segments_of(image: LabelledImage, min_area: int) -> Iterator[NDArray[np.bool_]]:
    """Yield the masks, bool (H, W), of every annotator's segments of at least min_area px."""
    for labels in image.labels:
        for number in np.flatnonzero(np.bincount(labels.ravel()) >= min_area):
            if number > 0:
                yield labels == number


def _row(mask: NDArray[np.bool_]) -> _Tree:
    code = rle.encode(mask, (0, 0), (mask.shape[0], mask.shape[1]))
    return {"segmentation": code, "area": int(mask.sum())}


class NameMatcher:
    """Finds the labels of an image by its path, by its path without suffix, or by its stem.

    Attributes:
        used: keys that the caller has found and used.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.used: set[str] = set()
        self._by: list[dict[str, list[str]]] = [{}, {}, {}]
        for key in keys:
            for level, form in enumerate(_forms(key)):
                self._by[level].setdefault(form, []).append(key)

    def find(self, name: str) -> str | None:
        """Return the key of an image's labels, None if there are none.

        Raises:
            InputError: if the name fits several labelled images.
        """
        for found, form in zip(self._by, _forms(name), strict=True):
            keys = found.get(form, [])
            if len(keys) > 1:
                raise InputError(
                    f"{printable(name)}: fits several labelled images ({first_names(keys)}): "
                    "give ground truth whose names tell them apart"
                )
            if keys:
                return keys[0]
        return None


def _forms(name: str) -> tuple[str, str, str]:
    path = PurePosixPath(name)
    bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return name, str(bare), bare.name


def first_names(names: list[str]) -> str:
    """Return the first five names and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(printable(name) for name in names[:5]) + more
