"""Validation of SA-1B annotations, which may come from other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from everything.core import rle
from everything.core.geometry import Size

Annotation = dict[str, Any]
_MOST_PIXELS = 2**32 - 1  # COCO's run lengths are 32 bits
LARGEST = 2**53  # up to here, all JSON readers agree about integers

_Number = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
_Pair = Annotated[list[_Number], Field(min_length=2, max_length=2)]
_Box = Annotated[list[_Number], Field(min_length=4, max_length=4)]


class _Code(BaseModel):
    size: _Pair
    counts: StrictStr


class _Record(BaseModel):
    """The fields that are read; all others may be anything. Defaults are not looked at."""

    segmentation: _Code
    area: _Number
    id: StrictInt | StrictBool = 0
    bbox: _Box = []
    predicted_iou: _Number = 0
    stability_score: _Number = 0
    crop_box: _Box = []
    point_coords: list[_Pair] = []
    iscrowd: StrictInt | StrictBool = 0
    parent_id: StrictInt | StrictStr | None = None


_RECORD, _RECORDS = TypeAdapter(_Record), TypeAdapter(list[_Record])
_NUMBER = TypeAdapter(_Number)


def size_of(image: Any) -> Size:
    """Return (H, W) in px from a record with `height` and `width`.

    Raises:
        KeyError: One of them is missing.
        TypeError: The record is not a mapping.
        ValueError: They are not a possible size.
    """
    height, width = (_number(image[side], side) for side in ("height", "width"))
    if height % 1 or width % 1 or height < 1 or width < 1 or height * width > _MOST_PIXELS:
        raise ValueError(f"an image of {width:g} x {height:g} px")
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
    try:
        _RECORDS.validate_python(annotations)
        codes = [annotation["segmentation"] for annotation in annotations]
        if any(code["size"] != list(size) for code in codes):
            raise ValueError("a mask of another size")
        rle.check(codes)
    except ValueError:
        for row, annotation in enumerate(annotations):  # find the invalid one
            with _in_mask(row):
                _check(annotation, size)
        raise


@contextmanager
def _in_mask(row: int) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "the record"
        raise ValueError(f"mask {row}: {field}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"mask {row}: {error}") from error


def _check(annotation: Any, size: Size) -> None:
    _RECORD.validate_python(annotation)
    code = annotation["segmentation"]
    if code["size"] != list(size):
        raise ValueError(f"a mask of size {code['size']} in an image of {list(size)}")
    rle.check([code])


def _number(value: Any, name: str) -> float:
    try:
        return _NUMBER.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name} must be a number") from error


def check_timing(timing: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ValueError if one of these values exists and is not a number."""
    for name in names:
        _number(timing.get(name, 0), name)
