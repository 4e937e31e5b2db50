"""Ground truth of any known format as COCO's annotations, and the labels of each of its images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.file_names import printable
from everything.core.label_map import contours_of_labels
from everything.errors import InputError, reason_of
from everything.io.datasets.annotations import read_document
from everything.io.datasets.coco import CocoReader, is_coco
from everything.io.datasets.label_maps import LabelledImage, read_labelled_images
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.images.sources import SUFFIXES
from everything.io.results.reader import Results

_LOOKED_AT = 3  # JSON files of a folder that tell its format
_FEW = 30  # JSON files of COCO in one folder are fewer
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
    truth: Path,
    split: str | None,
    min_area: int,
    contours: bool = True,
    tally: ReadingTally | None = None,
) -> Iterator[GroundTruth]:
    """Yield the images of ground truth in any known format.

    Args:
        truth: see `everything.evaluation.mask_scores.evaluate`.
        split: the part of a data pack to read; None for all of it.
        min_area: segments of label maps that are smaller, in px, are left out.
        contours: whether to compute contours where they are known.
        tally: counts the annotations and images that are left out or mended.

    Raises:
        InputError: if no format fits.
    """
    tally = ReadingTally() if tally is None else tally
    if truth.is_file():
        return _of_coco(truth, tally)
    if (file := coco_in(truth)) is not None:
        return _of_coco(file, tally)
    if (truth / "annotations").is_dir() or is_sa1b(truth):
        return _of_sa1b(Results(truth), tally)
    return _from_label_maps(truth, split, min_area, contours)


def coco_in(folder: Path) -> Path | None:
    """Return the COCO file of a folder as COCO and exports have it, annotations/instances_….json.

    Raises:
        InputError: There are several.
    """
    few = list(islice((folder / "annotations").glob("*.json"), _FEW))
    found = []
    for file in sorted(few) if len(few) < _FEW else ():
        with suppress(InputError):  # of a broken file, which its own reader counts
            found += [file] if is_coco(file) else []
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise InputError(f"{printable(folder)}: has several COCO files: give one ({names})")
    return found[0] if found else None


def is_sa1b(folder: Path) -> bool:
    """Return whether one of a folder's first JSON files is in SA-1B's format.

    Raises:
        InputError: None of its JSON files can be read.
    """
    broken: InputError | None = None
    looked_at = 0
    for file in sorted(folder.rglob("*.json")):
        try:
            content = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            reason = printable(f"not a JSON file ({type(error).__name__}: {reason_of(error)})")
            message = f"{printable(file)}: {reason}: get another copy of it"
            broken = broken or InputError(message)
            continue
        if isinstance(content, dict) and {"image", "annotations"} <= content.keys():
            return True
        looked_at += 1
        if looked_at == _LOOKED_AT:
            return False
    if broken and not looked_at:
        raise broken
    return False


def _of_coco(file: Path, tally: ReadingTally) -> Iterator[GroundTruth]:
    """The areas, polygons and crowds are the file's, so that scores are COCO's to the digit."""
    for image in CocoReader(file, tally=tally):
        yield GroundTruth(image.name, image.size, image.annotations)


def _of_sa1b(truth: Results, tally: ReadingTally) -> Iterator[GroundTruth]:
    for key in truth.files:
        # Like the results, named by the file, whatever image it names inside.
        try:
            result = read_document(truth.document(key), key, tally)
        except InputError as error:
            tally.refuse_image(key, str(error))
        else:
            yield GroundTruth(key, result.size, result.annotations)


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
    name = normalize("NFC", name)
    path = PurePosixPath(name)
    bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return name, str(bare), bare.name


def first_names(names: list[str]) -> str:
    """Return the first five names and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(printable(name) for name in names[:5]) + more
