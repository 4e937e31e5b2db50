"""Images with the masks of their ground truth, for prompting a model for each mask."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.file_names import printable
from everything.errors import InputError
from everything.io.datasets.coco import image_folder
from everything.io.datasets.ground_truth import (
    GroundTruth,
    ground_truth_row,
    is_sa1b,
    read_annotations,
    segments_of,
)
from everything.io.datasets.label_maps import read_labelled_images
from everything.io.images.decode import read_image
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results

_Masks = tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]


def images_with_masks(
    truth: Path,
    split: str | None,
    min_area: int,
    limit: int | None = None,
    images: Path | None = None,
) -> Iterator[_Masks]:
    """Yield images, uint8 (H, W, 3) sRGB, that have segments, with their masks, bool (H, W).

    Masks of a COCO file or of SA-1B may overlap; crowds are left out.

    Args:
        truth: ground truth; see `everything.evaluation.mask_scores.evaluate`.
        split: the part of a data pack to read; None for all of it.
        min_area: masks that are smaller, in px, are left out.
        limit: only the first so many images of the ground truth.
        images: the folder of the images, if they are not beside the ground truth.

    Raises:
        InputError: if no format fits, or an image is missing or of another size.
        ImageError: if an image cannot be decoded.
    """
    if truth.is_file():
        found = _of_coco(truth, images)
    elif (truth / "annotations").is_dir() or is_sa1b(truth):
        found = _of_sa1b(Results(truth, images))
    else:
        maps = islice(read_labelled_images(truth, split), limit)
        found = ((image.pixels, list(segments_of(image, min_area))) for image in maps)
    for pixels, masks in islice(found, limit):
        large = [mask for mask in masks if mask.sum() >= min_area]
        if large:
            yield pixels, large


def _of_coco(file: Path, images: Path | None) -> Iterator[_Masks]:
    for truth in read_annotations(file):
        folder = images or image_folder(file, truth.name)
        if folder is None or not (folder / truth.name).is_file():
            home = printable(folder or file.parent)
            raise InputError(f"{printable(truth.name)}: no such image in {home}: give --photos")
        yield _with_masks(read_image(folder / truth.name).pixels, truth)


def _of_sa1b(results: Results) -> Iterator[_Masks]:
    for key in results.files:
        result = results.read(key)
        rows = [ground_truth_row(annotation) for annotation in result.annotations]
        truth = GroundTruth(key, result.size, rows)
        yield _with_masks(original_image(results, key, result), truth)


def _with_masks(pixels: NDArray[np.uint8], truth: GroundTruth) -> _Masks:
    height, width = pixels.shape[:2]
    if (height, width) != truth.size:
        raise InputError(
            f"{printable(truth.name)}: the image has {width} x {height} px, the ground truth "
            f"{truth.size[1]} x {truth.size[0]}: give the images that were annotated"
        )
    codes = [row["segmentation"] for row in truth.annotations if not row.get("iscrowd")]
    return pixels, list(rle.decode(codes, truth.size))
