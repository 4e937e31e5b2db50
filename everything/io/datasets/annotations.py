"""The only reader of single annotations that other programs wrote, COCO's and SA-1B's.

What can be understood is mended, the rest is left out; both are counted by reason. A mask is never
guessed: one whose size is not the image's is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everything.core import rle
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.rle import Rle
from everything.core.sa1b import LARGEST, Annotation, size_of
from everything.errors import InputError, reason_of
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.results.reader import Result

NO_MASK = "no mask (a box only, or nothing)"
TOO_FEW = "a polygon of fewer than three points"
OTHER_SIZE = "run lengths of another size than the image"
NOT_A_MASK = "not a mask in one of COCO's forms"
NORMALISED = "coordinates from 0 to 1, not in px"
EMPTY = "a mask without a pixel in the image, kept"
NOT_A_RECORD = "not a record"
_SCORES = ("score", "predicted_iou", "stability_score")


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its annotations.

    Attributes:
        name: Its relative name.
        size: (H, W) in px, as the annotations say.
        annotations: Records as from `read_annotations`.
        folder: The folder of the image, None if it is not known.
    """

    name: str
    size: Size
    annotations: list[Annotation]
    folder: Path | None = None


class UnusableAnnotation(ValueError):
    """An annotation without a usable mask.

    Attributes:
        reason: What is wrong, the same text for all of a kind.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


def read_annotations(
    rows: Iterable[Any], size: Size, where: str, tally: ReadingTally
) -> list[Annotation]:
    """Return the usable annotations of an image.

    Args:
        rows: The annotations as they are in the file.
        size: (H, W) of the image in px.
        where: The image, for messages.
        tally: Counts what is left out and mended.

    Returns:
        Records with `segmentation` (compressed run lengths of `size`), `area` in px, `bbox` (x, y,
        width, height), `iscrowd` and `ignore` (0 or 1), and those of `score`, `predicted_iou`,
        `stability_score`, `crop_box`, `point_coords`, `category`, `parent_id` that are valid.
        `id` is an integer, different for each.
    """
    found, ids = [], []
    for number, row in enumerate(rows):
        try:
            found.append(_read(row, size, tally))
            ids.append(row.get("id"))
        except UnusableAnnotation as error:
            name = row.get("id", number) if isinstance(row, Mapping) else number
            tally.leave_out(error.reason, f"{where}, annotation {name}", str(error))
    _number(found, ids, tally)
    return found


def read_document(document: Any, key: str, tally: ReadingTally) -> Result:
    """Return the usable annotations of an image in SA-1B's format.

    Args:
        document: The content of the image's JSON file.
        key: What the image is called if the document does not say, and in messages.
        tally: Counts what is left out and mended.

    Raises:
        InputError: It is not SA-1B's format.
    """
    try:
        image, rows = document["image"], document["annotations"]
        if rows is None:
            tally.mend("annotations are null, read as an empty list")
            rows = []
        size, name = size_in(image), str(image.get("file_name") or key)
        if not isinstance(rows, list):
            raise TypeError("annotations must be a list")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        reason = f"not SA-1B's JSON ({type(error).__name__}: {reason_of(error)})"
        raise InputError(printable(f"{key}: {reason}: get another copy of it")) from error
    return Result(name, size, read_annotations(rows, size, key, tally))


def size_in(image: Mapping[str, Any]) -> Size:
    """Return (H, W) of a record of an image, also if the numbers are written as text.

    Raises:
        ValueError, LookupError, TypeError: It has none.
    """
    sides = {side: image[side] for side in ("height", "width")}
    return size_of({k: int(v) if isinstance(v, str) else v for k, v in sides.items()})


def _read(row: Any, size: Size, tally: ReadingTally) -> Annotation:
    if not isinstance(row, Mapping):
        raise UnusableAnnotation(NOT_A_RECORD)
    code = read_mask(row.get("segmentation"), size, tally)
    record: Annotation = {"segmentation": code}
    pixels, area = int(rle.areas([code]).item()), _number_or_none(row.get("area"))
    if not pixels:
        tally.mend(EMPTY)
    record["area"] = pixels if area is None else area
    bbox = _numbers(row.get("bbox"), 4)
    record["bbox"] = rle.boxes([code])[0].tolist() if bbox is None else bbox
    for name in ("iscrowd", "ignore"):
        record[name] = int(bool(_number_or_none(row.get(name))))
    for name in _SCORES:
        if name in row:
            score = _number_or_none(row[name])
            if score is None:
                tally.mend(f"{name} unknown: 1.0")
            record[name] = 1.0 if score is None else score
    crop = _numbers(row.get("crop_box"), 4)
    points = row.get("point_coords")
    if crop is not None:
        record["crop_box"] = crop
    if isinstance(points, list) and all(_numbers(point, 2) is not None for point in points):
        record["point_coords"] = points
    if isinstance(row.get("category"), str):
        record["category"] = row["category"]
    if "parent_id" in row:
        record["parent_id"] = row["parent_id"]
    return record


def read_mask(segmentation: Any, size: Size, tally: ReadingTally) -> Rle:
    """Return a mask in any of COCO's forms as compressed run lengths.

    Args:
        segmentation: Polygons, run lengths as a list or as text, or that text alone.
        size: (H, W) of the image in px.
        tally: Counts what is mended.

    Raises:
        UnusableAnnotation: It is no mask of an image of this size.
    """
    counts = segmentation.get("counts") if isinstance(segmentation, Mapping) else segmentation
    if counts is None or counts in ([], "", {}):
        raise UnusableAnnotation(NO_MASK)
    try:
        if isinstance(segmentation, list):
            return rle.from_polygons(_polygons(segmentation, tally), size)
        if isinstance(segmentation, Mapping):
            _check_size(segmentation.get("size"), size)
        return _run_lengths(counts, size, tally)
    except UnusableAnnotation:
        raise
    except ValueError as error:
        raise UnusableAnnotation(NOT_A_MASK, str(error)) from error


def _check_size(own: Any, size: Size) -> None:
    if own is not None and _numbers(own, 2) != list(size):
        raise UnusableAnnotation(OTHER_SIZE, f"run lengths of size {own}, the image's {list(size)}")


def _run_lengths(counts: Any, size: Size, tally: ReadingTally) -> Rle:
    if isinstance(counts, list) and not all(type(value) is int for value in counts):
        counts = [_length(value) for value in counts]
    code = rle.from_run_lengths(counts, size)
    whole = rle.with_last_run(code)
    if whole is not code:
        tally.mend("run lengths without the last run of zeros")
    return whole


def _length(value: Any) -> int:
    number = _number_or_none(value)
    if number is None or number % 1:
        raise ValueError("a run length that is no whole number")
    return int(number)


def _polygons(segmentation: list[Any], tally: ReadingTally) -> list[list[float]]:
    """Return the polygons of at least three points, each as x, y, x, y, …"""
    if not isinstance(segmentation[0], list) or _is_points(segmentation):
        if isinstance(segmentation[0], Mapping):
            raise UnusableAnnotation(NOT_A_MASK, "a list of run lengths, not of polygons")
        tally.mend("a polygon that is not in a list of polygons")
        segmentation = [segmentation]
    polygons = []
    if any(map(_is_points, segmentation)):
        tally.mend("polygons as lists of points")
    for part in segmentation:
        flat = [value for point in part for value in point] if _is_points(part) else part
        if not isinstance(flat, list) or len(flat) % 2:
            raise UnusableAnnotation(NOT_A_MASK, "a polygon that is not x, y, x, y, …")
        polygons.append(flat)
    usable = [polygon for polygon in polygons if len(polygon) >= 6]
    if not usable:
        raise UnusableAnnotation(TOO_FEW)
    if all(map(_is_normalised, usable)):
        raise UnusableAnnotation(NORMALISED)
    if len(usable) < len(polygons):
        tally.mend("parts of fewer than three points dropped")
    return usable


def _is_normalised(polygon: list[Any]) -> bool:
    """Tell whether all coordinates are shares of the image's sides; as px they would be one."""
    numbers = [_number_or_none(value) for value in polygon]
    if any(number is None or not 0 <= number <= 1 for number in numbers):
        return False
    return any(number not in (0, 1) for number in numbers)


def _is_points(part: Any) -> bool:
    """Tell whether this is one polygon as [[x, y], [x, y], …]."""
    if not isinstance(part, list) or len(part) < 3 or not isinstance(part[0], list):
        return False
    return all(_numbers(point, 2) is not None for point in part)


def _number(records: list[Annotation], ids: list[Any], tally: ReadingTally) -> None:
    """Keep the ids if all are different integers, else number the annotations from 0 on."""
    whole = [None if isinstance(value, str) else _number_or_none(value) for value in ids]
    numbers = [int(value) for value in whole if value is not None and value % 1 == 0]
    if len(set(numbers)) < len(ids):
        numbers = list(range(len(ids)))
        if any(value is not None for value in ids):
            for _ in ids:
                tally.mend("ids renumbered")
    new = dict(zip(map(repr, ids), numbers, strict=True))
    for record, number in zip(records, numbers, strict=True):
        record["id"] = number
        if "parent_id" in record and record["parent_id"] is not None:
            record["parent_id"] = new.get(repr(record["parent_id"]))


def _numbers(value: Any, length: int) -> list[float] | None:
    """Return a list of so many finite numbers, None if it is something else."""
    if not isinstance(value, list) or len(value) != length:
        return None
    numbers = [_number_or_none(number) for number in value]
    return [number for number in numbers if number is not None] if None not in numbers else None


def _number_or_none(value: Any) -> float | None:
    """Return a finite number, also one that was written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool):
        return int(value)
    # In this order: whole numbers may be too large for isfinite.
    if not isinstance(value, int | float) or abs(value) > LARGEST or not math.isfinite(value):
        return None
    return value
