"""Images with the masks of their ground truth, for prompting a model for each mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.sa1b import Annotation
from everything.errors import ImageError, InputError
from everything.io.datasets.annotations import read_document
from everything.io.datasets.coco import CocoReader
from everything.io.datasets.ground_truth import coco_in, is_sa1b, segments_of
from everything.io.datasets.image_names import ImageFinder
from everything.io.datasets.label_maps import read_labelled_images
from everything.io.datasets.reading_tally import ReadingTally, log_tally
from everything.io.datasets.sa1b_folder import find_image
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

    Masks of a COCO file or of SA-1B may overlap; crowds are left out. So are images that are
    missing, cannot be read or are not of the size that was annotated; they are counted in the log.

    Args:
        truth: ground truth; see `everything.evaluation.mask_scores.evaluate`.
        split: the part of a data pack to read; None for all of it.
        min_area: masks that are smaller, in px, are left out.
        limit: only the first so many images of the ground truth.
        images: the folder of the images, if they are not beside the ground truth.

    Raises:
        InputError: if no format fits, or none of the images can be used.
    """
    tally = ReadingTally()
    file = truth if truth.is_file() else coco_in(truth)
    if file is not None:
        found = _of_coco(file, images, tally)
    elif (truth / "annotations").is_dir() or is_sa1b(truth):
        found = _of_sa1b(Results(truth, images), tally)
    else:
        maps = islice(read_labelled_images(truth, split), limit)
        found = ((image.pixels, list(segments_of(image, min_area))) for image in maps)
    is_empty = True
    for pixels, masks in islice(found, limit):
        is_empty = False
        large = [mask for mask in masks if mask.sum() >= min_area]
        if large:
            yield pixels, large
    log_tally(truth, tally)
    if is_empty and tally.examples:
        raise InputError(f"{printable(truth)}: no image can be used: {tally.examples[0]}")


def _of_coco(file: Path, images: Path | None, tally: ReadingTally) -> Iterator[_Masks]:
    for image in CocoReader(file, ImageFinder(file, images), tally):
        if image.folder is None:  # counted by the reader
            tally.mention(f"{image.name}: no such image near {file}: give --photos")
            continue
        try:
            pixels = read_image(image.folder / image.name).pixels
        except ImageError as error:
            tally.refuse_image(image.name, str(error))
            continue
        (height, width), (h, w) = pixels.shape[:2], image.size
        if (height, width) == (h, w):
            yield pixels, _masks(image.annotations, image.size)
        else:
            reason = f"the image has {width} x {height} px, its annotations {w} x {h}"
            tally.refuse_image(image.name, reason)


def _of_sa1b(results: Results, tally: ReadingTally) -> Iterator[_Masks]:
    for key in results.files:
        try:
            result = read_document(results.document(key), key, tally)
            if results.image(key, result.name) is None and (
                source := find_image(results, key, result.name)
            ):
                result = replace(result, name=source.name)
            pixels = original_image(results, key, result)
        except (InputError, ImageError) as error:
            tally.refuse_image(key, str(error))
        else:
            yield pixels, _masks(result.annotations, result.size)


def _masks(annotations: list[Annotation], size: Size) -> list[NDArray[np.bool_]]:
    codes = [row["segmentation"] for row in annotations if not row.get("iscrowd")]
    return list(rle.decode(codes, size))
