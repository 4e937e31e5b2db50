"""Validation of SA-1B annotations, which may come from other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from everything.core import rle
from everything.core.geometry import Size

Annotation = dict[str, Any]
_MOST_PIXELS = 2**32 - 1  # COCO's run lengths are 32 bits
LARGEST = 2**53  # up to here, all JSON readers agree about integers
_LENGTHS = {"bbox": 4, "crop_box": 4}
_NUMBERS = ("area", "predicted_iou", "stability_score")


def size_of(image: Any) -> Size:
    """Return (H, W) in px from a record with `height` and `width`.

    Raises:
        KeyError: One of them is missing.
        TypeError: The record is not a mapping.
        ValueError: They are not a possible size.
    """
    height, width = (_number(image[side], side) for side in ("height", "width"))
    if height % 1 or width % 1 or height < 1 or width < 1 or height * width > _MOST_PIXELS:
        raise ValueError(f"an image of {width} x {height} px")
    return int(height), int(width)


def check_annotations(annotations: Any, size: Size) -> None:
    """Check that annotations are SA-1B's records of an image.

    Each must have `segmentation`, COCO's compressed run-length encoding of exactly this size, and
    `area`; other fields may be missing.

    Args:
        annotations: The records.
        size: (H, W) of the image in px.

    Raises:
        TypeError: They are not a list.
        ValueError: A record is invalid.
    """
    if not isinstance(annotations, list):
        raise TypeError("annotations must be a list")
    for row, annotation in enumerate(annotations):
        with _in_mask(row):
            _check(annotation, size)
    codes = [annotation["segmentation"] for annotation in annotations]
    try:
        rle.check(codes)
    except ValueError:
        for row, code in enumerate(codes):  # find the invalid one
            with _in_mask(row):
                rle.check([code])
        raise


@contextmanager
def _in_mask(row: int) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"mask {row}: {what}") from error


def _check(annotation: Any, size: Size) -> None:
    _check_code(annotation["segmentation"], size)
    _number(annotation["area"], "area")
    for name in _NUMBERS:
        _number(annotation.get(name, 0), name)
    for name, length in _LENGTHS.items():
        _numbers(annotation.get(name, [0] * length), name, length)
    for point in _list(annotation.get("point_coords", []), "point_coords"):
        _numbers(point, "point_coords", 2)
    if not isinstance(annotation.get("id", 0), int):
        raise TypeError("id must be a number")


def _check_code(code: Any, size: Size) -> None:
    if not isinstance(code["counts"], str):
        raise TypeError("counts must be COCO's compressed text")
    if _numbers(code["size"], "size", 2) != list(size):
        raise ValueError(f"a mask of size {code['size']} in an image of {list(size)}")


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list")
    return value


def _numbers(value: Any, name: str, length: int) -> list[Any]:
    if len(_list(value, name)) != length:
        raise ValueError(f"{name} must have {length} numbers")
    return [_number(number, name) for number in value]


def _number(value: Any, name: str) -> float:
    # `not ... <=` so that NaN is refused, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError(f"{name} must be a number")
    return value


def check_timing(timing: Any, names: Sequence[str]) -> None:
    """Raise ValueError if one of these values exists and is not a number."""
    for name in names:
        _number(timing.get(name, 0), name)
