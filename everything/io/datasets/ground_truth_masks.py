"""Photos with the masks that somebody marked in them, as they are needed to prompt for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.file_names import printable
from everything.core.rle import compressed
from everything.errors import InputError
from everything.io.datasets.ground_truth import (
    GroundTruth,
    is_sa1b,
    label_maps,
    read_coco,
    segments_of,
    truth_row,
)
from everything.io.datasets.label_maps import read_photo
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results

_Masks = tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]


def marked_masks(
    truth: Path,
    split: str | None,
    min_area: int,
    limit: int | None = None,
    photos: Path | None = None,
) -> Iterator[_Masks]:
    """Yield photos uint8 (H, W, 3) that have segments, with their masks bool (H, W).

    limit: only the first so many photos of the truth. photos: where they are, if not beside it.
    Masks of a COCO or SA-1B truth may overlap; crowds are left out. Raises InputError if no format
    fits or a photo is not there.
    """
    if truth.is_file():
        found = _coco_photos(truth, photos)
    elif (truth / "annotations").is_dir() or is_sa1b(truth):
        found = _sa1b_photos(Results(truth, photos))
    else:
        maps = islice(label_maps(truth, split), limit)
        found = ((photo.photo, list(segments_of(photo, min_area))) for photo in maps)
    for pixels, masks in islice(found, limit):
        large = [mask for mask in masks if mask.sum() >= min_area]
        if large:
            yield pixels, large


def _coco_photos(truth: Path, photos: Path | None) -> Iterator[_Masks]:
    beside = (truth.parent / "images", truth.parent, truth.parent.parent)
    for marked in read_coco(truth):
        places = [place / marked.name for place in ((photos,) if photos else beside)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            home = printable(places[0].parent)
            raise InputError(f"{printable(marked.name)}: no such photo in {home}: give --photos")
        yield _with_masks(read_photo(found), marked)


def _sa1b_photos(truth: Results) -> Iterator[_Masks]:
    for key in truth.files:
        result = truth.read(key)
        rows = [truth_row(annotation) for annotation in result.annotations]
        yield _with_masks(original_image(truth, key, result), GroundTruth(key, result.size, rows))


def _with_masks(pixels: NDArray[np.uint8], marked: GroundTruth) -> _Masks:
    height, width = pixels.shape[:2]
    if (height, width) != marked.size:
        raise InputError(
            f"{printable(marked.name)}: is {width} x {height} px, the truth has {marked.size[1]} x "
            f"{marked.size[0]}: give the photos that it was drawn on"
        )
    single = [row for row in marked.annotations if not row.get("iscrowd")]
    codes = [compressed(row["segmentation"], marked.size) for row in single]
    return pixels, list(rle.decode(codes, marked.size)) if codes else []
