"""Masks of overlapping tiles joined into masks of the image.

Where two tiles overlap, both have seen the same pixels. A mask of one and a mask of the other that
agree there are one object: of all pairs the best by IoU within the overlap are joined, each mask
with one mask of a neighbour at most. What a tile's border cuts into pieces (the legs of a U, the
arcs of a ring) agrees with what the neighbour sees whole only if it is taken together: so pieces
that end at the border are joined with it, too, where their union agrees. Whoever is joined with a
common third becomes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress, groupby

import numpy as np
import torch
from numpy.typing import NDArray

from everything.core import rle
from everything.core.geometry import Box, Size
from everything.core.matching import one_to_one
from everything.core.rle import Rle
from everything.masks.segments import Segments

INSIDE = 0.9  # of a piece's area, by which it is part of what the neighbour sees whole
TOGETHER = (
    0.8  # IoU of all the pieces with it: more than for one, as chance has more to choose from
)


@dataclass(frozen=True)
class Edge:
    """What a tile's masks are within its overlap with a neighbour.

    rows: of the masks that are there, in the list of all. codes: over the overlap alone. ends:
    whether a mask reaches the tile's border with the neighbour, and is perhaps cut off there.
    categories: each mask's class.
    """

    rows: list[int]
    codes: list[Rle]
    ends: list[bool]
    categories: list[str]


def overlap(a: Box, b: Box) -> Box | None:
    """Return the rectangle that two boxes share, px, or None."""
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def edge(segments: Segments, first: int, tile: Box, shared: Box) -> Edge:
    """Return a tile's masks, of which `first` is the row of the first one, within an overlap.

    segments: in the tile's own px. tile, shared: in px of the image.
    """
    x0, y0, x1, y1 = (shared[0] - tile[0], shared[1] - tile[1], shared[2] - tile[0],
                      shared[3] - tile[1])  # fmt: skip
    size = (y1 - y0, x1 - x0)
    rows, codes, ends, categories = [], [], [], []
    b = segments.boxes
    near = (b[:, 0] < x1) & (b[:, 2] >= x0) & (b[:, 1] < y1) & (b[:, 3] >= y0)
    for row in near.nonzero()[:, 0].tolist():
        mask, (x, y) = rle.cut(segments.rles[row])
        left, top = max(0, x0 - x), max(0, y0 - y)
        part = mask[top : max(0, y1 - y), left : max(0, x1 - x)]
        if part.any():
            corner = (x + left - x0, y + top - y0)
            rows.append(first + row)
            codes.append(rle.encode(part, corner, size))
            ends.append(_reaches(part, corner, tile, shared))
            categories.append(segments.categories[row])
    return Edge(rows, codes, ends, categories)


def _reaches(part: NDArray[np.bool_], corner: tuple[int, int], tile: Box, shared: Box) -> bool:
    """Whether a mask bool (h, w) at `corner` of an overlap touches the tile's border in it: the
    side of the overlap that is the tile's and not the neighbour's."""
    (x, y), (h, w) = corner, part.shape
    width, height = shared[2] - shared[0], shared[3] - shared[1]
    sides = [
        (shared[0] > tile[0] and x + w == width, part[:, -1:]),
        (shared[2] < tile[2] and x == 0, part[:, :1]),
        (shared[1] > tile[1] and y + h == height, part[-1:]),
        (shared[3] < tile[3] and y == 0, part[:1]),
    ]
    return any(is_there and bool(line.any()) for is_there, line in sides)


def links(a: Edge, b: Edge, least: float) -> list[tuple[int, int]]:
    """Return the rows of masks that are one object: those of one class that agree within an overlap
    by an IoU of at least `least`, and pieces of one that together agree with it."""
    if not a.rows or not b.rows:
        return []
    agreement = rle.iou(a.codes, b.codes).numpy() * _of_one_class(a, b)
    found = one_to_one(agreement, least)
    found += _pieces(a, b, found)
    found += [(i, j) for j, i in _pieces(b, a, [(j, i) for i, j in found])]
    return [(a.rows[i], b.rows[j]) for i, j in found]


def _of_one_class(a: Edge, b: Edge) -> NDArray[np.bool_]:
    """Which masks of a and of b have the same class, bool (A, B)."""
    same: NDArray[np.bool_] = np.equal.outer(np.array(a.categories), np.array(b.categories))
    return same


def _pieces(a: Edge, b: Edge, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pieces in a, still without a pair, of masks in b. A part of a whole is none: it has its own
    pair in b, or does not end at the border, or is not all that there is of the whole."""
    partner = {j: i for i, j in pairs}
    has_pair = {i for i, _ in pairs}
    free = [i for i in compress(range(len(a.rows)), a.ends) if i not in has_pair]
    if not free:
        return []
    inside = rle.iou([a.codes[i] for i in free], b.codes, within=True).numpy() >= INSIDE
    inside &= _of_one_class(a, b)[free]
    offers = []
    for j in np.flatnonzero(inside.any(0)).tolist():
        first = [partner[j]] if j in partner else []
        pieces, agreement = _together(
            a, first, [free[row] for row in np.flatnonzero(inside[:, j])], b.codes[j]
        )
        if agreement >= TOGETHER and len(pieces) > 1:
            offers.append((agreement, j, [i for i in pieces if i not in first]))
    found: list[tuple[int, int]] = []
    taken: set[int] = set()
    for _, j, pieces in sorted(offers, key=lambda offer: -offer[0]):
        if taken.isdisjoint(pieces):
            taken.update(pieces)
            found += [(i, j) for i in pieces]
    return found


def _together(a: Edge, first: list[int], others: list[int], whole: Rle) -> tuple[list[int], float]:
    """Of pieces in one mask those that lie beside each other, the largest first, and the IoU of
    their union with it. first: those that belong to it in any case."""
    areas = rle.areas([a.codes[i] for i in others]).tolist()
    pieces = list(first)
    for _, i in sorted(zip(areas, others, strict=True), key=lambda item: -item[0]):
        overlaps = rle.iou([a.codes[i]], [a.codes[k] for k in pieces], within=True)
        if not pieces or overlaps.sum().item() <= 1 - INSIDE:
            pieces.append(i)
    return pieces, rle.iou([rle.union([a.codes[i] for i in pieces])], [whole]).item()


def placed(segments: Segments, tile: Box, size: Size) -> Segments:
    """Return the segments of a tile in px of its image of (H, W) px; the tile is their crop."""
    x, y = tile[:2]
    codes = []
    for code in segments.rles:
        mask, (left, top) = rle.cut(code)
        codes.append(rle.encode(mask, (left + x, top + y), size))
    return Segments(
        codes,
        segments.boxes + segments.boxes.new_tensor([x, y, x, y]),
        segments.scores,
        segments.stability,
        segments.levels,
        segments.prompts.moved((x, y)),
        torch.tensor(tile).expand(len(segments), 4),
        size,
        categories=segments.categories,
    )


def joined(segments: Segments, links: Sequence[tuple[int, int]]) -> Segments:
    """Return segments of an image with linked ones made one, best first.

    The largest part gives a joined mask its prompt, its scores and its crop.
    """
    heads = _heads(len(segments), links)
    areas = segments.areas.tolist()
    order = sorted(range(len(heads)), key=lambda row: (heads[row], -areas[row]))
    kept, codes = [], []
    for _, group in groupby(order, key=heads.__getitem__):
        rows = list(group)
        kept.append(rows[0])
        parts = [segments.rles[row] for row in rows]
        codes.append(parts[0] if len(parts) == 1 else rle.union(parts))
    found = segments[torch.tensor(kept, dtype=torch.long)]
    boxes = torch.from_numpy(rle.boxes(codes)).to(found.boxes)
    boxes[:, 2:] += boxes[:, :2] - 1
    found = replace(found, rles=codes, boxes=boxes)
    return found[found.scores.argsort(descending=True, stable=True)]


def _heads(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """For each of so many things the first one that it is linked with, over any number of links."""
    heads = list(range(count))

    def head(row: int) -> int:
        while heads[row] != row:
            heads[row] = heads[heads[row]]
            row = heads[row]
        return row

    for a, b in links:
        first, second = sorted((head(a), head(b)))
        heads[second] = first
    return [head(row) for row in range(count)]
