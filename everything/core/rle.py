"""COCO run-length codes; the only module that imports pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from torch import Tensor

from everything.core.geometry import Size
from everything.errors import reason_of

_NO_MASK = "not a mask in one of COCO's forms"
_LONGEST = 4_000_000  # px around polygons, at some 100 bytes each
_TEXT = 2**20  # characters that are checked together, at some 60 bytes each


class Rle(TypedDict):
    """A mask as COCO's compressed run lengths: size [height, width] and ASCII counts."""

    size: list[int]
    counts: str


@dataclass(frozen=True)
class Outline:
    """Where a mask in a rectangle `height` px high begins and ends, column by column.

    rows, columns: int64 (E,) of pixels that differ from the one above them in the rectangle. top,
    bottom: columns, int64, whose first or last pixel in it is set. All in any order. origin:
    (x, y) of the rectangle.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    height: int
    origin: tuple[int, int] = (0, 0)

    @staticmethod
    def of(mask: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> Outline:
        """Return the outline of a mask bool (h, w) that lies at `origin` (x, y)."""
        rows, columns = (mask[1:] != mask[:-1]).nonzero()
        top, bottom = mask[:1].nonzero()[1], mask[-1:].nonzero()[1]
        return Outline(rows + 1, columns, top, bottom, len(mask), origin)


def encode(mask: NDArray[np.bool_], origin: tuple[int, int], size: Size) -> Rle:
    """Encode a mask that is cropped to a rectangle of its image.

    Only the pixels of the rectangle are read, so that a small mask of a huge image costs little.

    Args:
        mask: bool (h, w).
        origin: (x, y) of its upper left pixel in the image.
        size: (H, W) of the image in px.
    """
    return encode_outline(Outline.of(mask, origin), size)


def encode_outline(outline: Outline, size: Size) -> Rle:
    """Encode a mask, given by its outline, of an image of `size` (H, W) px."""
    (x, y), height = outline.origin, size[0]
    # Where runs start and end, in turn once they are in column order.
    edges = np.concatenate(
        [
            (outline.columns + x) * height + outline.rows + y,
            (outline.top + x) * height + y,
            (outline.bottom + x) * height + y + outline.height,
        ]
    )
    edges.sort()
    return encode_columns(edges, size)


def encode_columns(edges: NDArray[np.int64], size: Size) -> Rle:
    """Encode a mask whose runs of ones are given column by column.

    Args:
        edges: int64 (2 N,): where runs begin and end, in turn, ascending. Pixels are counted down
            the columns.
        size: (H, W) of the image in px.
    """
    # A run down to the last pixel of a column continues at the first pixel of the next one.
    seam = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    return encode_edges(np.delete(edges, np.concatenate([seam, seam + 1])), size)


def encode_edges(edges: NDArray[np.int64], size: Size) -> Rle:
    """Encode a mask whose runs of ones may span columns; arguments as of `encode_columns`."""
    height, width = size
    lengths: list[int] = np.diff(edges, prepend=0, append=height * width).tolist()
    counts = lengths if lengths[-1] else lengths[:-1]
    return _text(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def runs(code: Rle) -> NDArray[np.int64]:
    """Return where the runs of ones begin and end, int64 (N, 2), counted down the columns.

    Raises:
        ValueError: The text is not a code of its size.
    """
    lengths, _ = _lengths([code])
    ends = np.cumsum(lengths)
    edges = ends[: len(ends) // 2 * 2].reshape(-1, 2)
    return edges[edges[:, 0] < edges[:, 1]]


def check(codes: Sequence[Rle]) -> None:
    """Check that each text is a code of its size; pycocotools accepts many that are not.

    Raises:
        ValueError: One is not.
    """
    start = text = 0
    for end, code in enumerate(codes, 1):
        text += len(code["counts"])
        if text > _TEXT or end == len(codes):
            _lengths(codes[start:end])
            start, text = end, 0


def with_last_run(code: Rle) -> Rle:
    """Append the last run of zeros to a code that ends with ones before its image does.

    Some programs leave that run out. A valid code is returned as it is.

    Raises:
        ValueError: The text is no code, or lacks something else.
    """
    try:
        check([code])
        return code
    except ValueError:
        lengths, _ = _numbers([code])
        height, width = code["size"]
        missing = height * width - int(lengths.sum())
        if missing <= 0 or len(lengths) % 2 or lengths.min() < 0:
            raise
    counts = [*lengths.tolist(), missing]
    return _text(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def _lengths(codes: Sequence[Rle]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of the runs of all codes, int64 (R,), and which code each is of, int64 (R,)."""
    lengths, of = _numbers(codes)
    first = np.flatnonzero(np.diff(of, prepend=-1))
    sizes = np.array([height * width for height, width in (code["size"] for code in codes)])
    wrong = np.add.reduceat(lengths, first) != sizes
    wrong |= np.minimum.reduceat(lengths, first) < 0
    if wrong.any():
        height, width = codes[int(wrong.argmax())]["size"]
        raise ValueError(f"run lengths that do not fill {width} x {height} px")
    return lengths, of


def _numbers(codes: Sequence[Rle]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers in the texts of all codes, and which code each is of, as `_lengths`, unchecked.

    COCO's text holds five bits of a number in each character, least significant first; from the
    fourth number on, numbers are differences to the last but one.
    """
    texts = [np.frombuffer(code["counts"].encode("ascii"), np.uint8) for code in codes]
    ends = np.cumsum([len(text) for text in texts])
    text = np.concatenate(texts).astype(np.int64) - 48
    last = text & 0x20 == 0
    whole = all(map(len, texts)) and text.min() >= 0 and text.max() <= 0x3F and last[ends - 1].all()
    if not whole:
        raise ValueError("not COCO's compressed run lengths")
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(text)) - np.repeat(starts, np.diff(starts, append=len(text)))
    if place.max() > 6:
        raise ValueError("a run is longer than any image")
    lengths = np.add.reduceat((text & 0x1F) << (5 * place), starts)
    signs = text[last] & 0x10 != 0
    lengths[signs] -= (np.int64(1) << (5 * (place[last] + 1)))[signs]
    of = np.searchsorted(ends, starts, "right")
    first = np.flatnonzero(np.diff(of, prepend=-1))
    _add_up(lengths, np.arange(len(lengths)) - first[of], of)
    return lengths, of


def _add_up(lengths: NDArray[np.int64], place: NDArray[np.int64], of: NDArray[np.int64]) -> None:
    """Turn differences into lengths, in place: every second number is the sum of those before it.

    `place` is the position of a number in its code, `of` the code.
    """
    if of[-1] == 0:  # of a single code, which is quicker
        for second in (1, 2):
            lengths[second::2] = np.cumsum(lengths[second::2])
        return
    series = 3 * of + np.where(place == 0, 0, 1 + place % 2)
    order = np.argsort(series, kind="stable")
    sums, ordered = np.cumsum(lengths[order]), series[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    before = np.concatenate([[0], sums[starts[1:] - 1]])
    lengths[order] = sums - np.repeat(before, np.diff(starts, append=len(sums)))


def cut(code: Rle) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Decode a mask inside its bounding box.

    Time and memory depend on the size of the mask only, not on the image's.

    Returns:
        The mask, bool (h, w), (0, 0) if it has no pixels, and the box's corner (x, y).

    Raises:
        ValueError: The text is not a code of its size.
    """
    height = code["size"][0]
    edges = runs(code)
    if not len(edges):
        return np.zeros((0, 0), np.bool_), (0, 0)
    columns, rows = edges // height, edges % height
    last = edges[:, 1] - 1
    x0, x1 = int(columns[0, 0]), int(last[-1] // height) + 1
    # A run over the end of a column reaches the image's lower and upper border.
    spans = bool((columns[:, 0] != last // height).any())
    y0, y1 = (0, height) if spans else (int(rows[:, 0].min()), int((last % height).max()) + 1)
    h, w = y1 - y0, x1 - x0
    inside = np.empty_like(edges)
    inside[:, 0] = (columns[:, 0] - x0) * h + rows[:, 0] - y0
    inside[:, 1] = (last // height - x0) * h + last % height - y0 + 1
    lengths = np.diff(inside.ravel(), prepend=0, append=w * h)
    # Zeros and ones in turn: one byte per pixel, and nothing besides.
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return pixels.reshape(w, h).T, (x0, y0)


def sampled(code: Rle, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Decode a mask at some rows and columns of its image only, bool (rows, columns).

    Raises:
        ValueError: The text is not a code of its size.
    """
    places = columns[None] * code["size"][0] + rows[:, None]
    inside: NDArray[np.bool_] = np.searchsorted(runs(code).ravel(), places, side="right") % 2 == 1
    return inside


def decode(rles: Sequence[Rle], size: Size) -> NDArray[np.bool_]:
    """Return the masks bool (N, H, W) of codes of one image of (H, W) px."""
    if not rles:
        return np.zeros((0, *size), np.bool_)
    masks: NDArray[np.uint8] = coco.decode(list(rles))
    return masks.transpose(2, 0, 1).astype(np.bool_)


def areas(rles: Sequence[Rle]) -> Tensor:
    """Return the areas of the masks, int64 (N,) px."""
    # pycocotools 2.0.11 under numpy 2 fails on more than 255 at once.
    parts = [coco.area(list(rles[i : i + 255])) for i in range(0, len(rles), 255)]
    return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64))


def union(rles: Sequence[Rle]) -> Rle:
    """Return the mask of all pixels that are in any of the masks of one image."""
    return _text(coco.merge(list(rles)))


def boxes(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Return COCO's boxes around the masks, float64 (N, 4) x, y, width, height in px."""
    if not rles:
        return np.zeros((0, 4))
    return np.asarray(coco.toBbox(list(rles)), np.float64).reshape(-1, 4)


def iou(a: Sequence[Rle], b: Sequence[Rle], within: bool = False) -> Tensor:
    """Return the IoU of each mask of a with each of b, float64 (len(a), len(b)).

    With `within`, the intersection is divided by the area of a's mask: the share of a inside b.
    """
    if not a or not b:
        return torch.zeros(len(a), len(b), dtype=torch.float64)
    return torch.as_tensor(coco.iou(list(a), list(b), [int(within)] * len(b)))


def _text(code: dict[str, Any]) -> Rle:
    height, width = code["size"]
    return {"size": [int(height), int(width)], "counts": code["counts"].decode("ascii")}


def compressed(segmentation: Any, size: Size) -> Rle:
    """Return any of COCO's forms of a mask as compressed run lengths of an image of (H, W) px.

    Args:
        segmentation: Polygons (lists of x, y in px, one after the other), a mapping with run
            lengths as a list or as compressed text in `counts`, or that text alone.
        size: (H, W) of the image in px.

    Raises:
        ValueError: It is none of these, or of an image of another size.
    """
    if isinstance(segmentation, list):
        code = from_polygons(segmentation, size)
    elif isinstance(segmentation, str):
        code = from_run_lengths(segmentation, size)
    else:
        try:
            counts, own_size = segmentation["counts"], list(segmentation.get("size", size))
        except (TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"{_NO_MASK} ({reason_of(error)})") from error
        if own_size != list(size):
            raise ValueError(f"run lengths of size {own_size} in an image of {list(size)}")
        code = from_run_lengths(counts, size)
    check([code])
    return code


def from_polygons(polygons: Sequence[Sequence[float]], size: Size) -> Rle:
    """Return the mask that polygons cover together, by COCO's rasteriser.

    Args:
        polygons: Each as x, y, x, y, … in px.
        size: (H, W) of the image in px.

    Raises:
        ValueError: One is no polygon, leads far out of the image, or is too long.
    """
    try:
        corners = np.array([value for polygon in polygons for value in polygon], np.float64)
        # The time and memory of pycocotools' polygons grow with their length.
        if not (np.abs(corners) <= 4 * max(size)).all():
            raise ValueError("a polygon leads far out of the image")
        if sum(map(_length, polygons)) > _LONGEST:
            raise ValueError(f"polygons of more than {_LONGEST:,} px around")
        return _text(coco.merge(coco.frPyObjects(polygons, *size)))
    except Exception as error:  # pycocotools raises nothing more special
        raise ValueError(f"{_NO_MASK} ({reason_of(error)})") from error


def _length(polygon: Sequence[float]) -> float:
    """The length of a closed polygon, px, the longer of its extents in x and y for each side."""
    corners = np.asarray(polygon[: len(polygon) // 2 * 2], np.float64).reshape(-1, 2)
    return float(np.abs(corners - np.roll(corners, 1, 0)).max(1, initial=0).sum())


def from_run_lengths(counts: list[int] | str, size: Size) -> Rle:
    """Return run lengths, as a list or compressed, as a code that is not checked yet.

    Raises:
        ValueError: They are neither.
    """
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts}
    try:
        if not isinstance(counts, list):
            raise TypeError("counts must be a list or text")
        return _text(coco.frPyObjects({"size": list(size), "counts": counts}, *size))
    except Exception as error:  # pycocotools raises nothing more special
        raise ValueError(f"{_NO_MASK} ({reason_of(error)})") from error
