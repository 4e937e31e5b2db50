"""Merge the masks of overlapping tiles into masks of the image.

Where two tiles overlap, each has a mask of the same object. Masks are matched one to one by their
IoU within the overlap, best pair first, and matched masks are merged. A tile's border may cut an
object into several pieces (the legs of a U, the arcs of a ring) that only together match the
neighbour's mask: pieces that reach the border are merged with it where their union matches. Links
are transitive: masks linked with the same mask are merged with each other.
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

INSIDE = 0.9  # share of a piece's area inside the neighbour's mask, at least
# Smallest IoU of the union of pieces with the neighbour's mask. Higher than for a pair: the more
# pieces to choose from, the more often some match by chance.
UNION_IOU = 0.8


@dataclass(frozen=True)
class Edge:
    """A tile's masks within its overlap with a neighbour.

    rows: their rows among the masks of all tiles. codes: run lengths over the overlap alone.
    at_border: whether a mask reaches the tile's border inside the overlap, where it may be cut off.
    categories: each mask's class.
    """

    rows: list[int]
    codes: list[Rle]
    at_border: list[bool]
    categories: list[str]


def overlap(a: Box, b: Box) -> Box | None:
    """Return the rectangle that two boxes share, px, or None."""
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def edge_of(segments: Segments, first: int, tile: Box, shared: Box) -> Edge:
    """Return a tile's masks within an overlap.

    segments: in the tile's own px. first: row of the first of them among the masks of all tiles.
    tile, shared: the tile and the overlap, px of the image.
    """
    x0, y0, x1, y1 = (shared[0] - tile[0], shared[1] - tile[1], shared[2] - tile[0],
                      shared[3] - tile[1])  # fmt: skip
    size = (y1 - y0, x1 - x0)
    rows, codes, at_border, categories = [], [], [], []
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
            at_border.append(_reaches(part, corner, tile, shared))
            categories.append(segments.categories[row])
    return Edge(rows, codes, at_border, categories)


def _reaches(part: NDArray[np.bool_], corner: tuple[int, int], tile: Box, shared: Box) -> bool:
    """Whether a mask bool (h, w) at `corner` of an overlap touches the tile's border there."""
    (x, y), (h, w) = corner, part.shape
    width, height = shared[2] - shared[0], shared[3] - shared[1]
    sides = [
        (shared[0] > tile[0] and x + w == width, part[:, -1:]),
        (shared[2] < tile[2] and x == 0, part[:, :1]),
        (shared[1] > tile[1] and y + h == height, part[-1:]),
        (shared[3] < tile[3] and y == 0, part[:1]),
    ]
    return any(is_there and bool(line.any()) for is_there, line in sides)


def find_links(a: Edge, b: Edge, least: float) -> list[tuple[int, int]]:
    """Return the rows of masks that show the same object: pairs of one class whose IoU within the
    overlap is at least `least`, and pieces whose union matches a mask of the neighbour."""
    if not a.rows or not b.rows:
        return []
    ious = rle.iou(a.codes, b.codes).numpy() * _of_one_class(a, b)
    found = one_to_one(ious, least)
    found += _pieces(a, b, found)
    found += [(i, j) for j, i in _pieces(b, a, [(j, i) for i, j in found])]
    return [(a.rows[i], b.rows[j]) for i, j in found]


def _of_one_class(a: Edge, b: Edge) -> NDArray[np.bool_]:
    """Whether masks of a and of b have the same class, bool (A, B)."""
    same: NDArray[np.bool_] = np.equal.outer(np.array(a.categories), np.array(b.categories))
    return same


def _pieces(a: Edge, b: Edge, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Link pieces in a, not yet matched, with masks in b.

    A part of an object is not a piece: it has its own match in b, does not reach the border, or is
    less than all that a has of the object.
    """
    partner = {j: i for i, j in pairs}
    matched = {i for i, _ in pairs}
    free = [i for i in compress(range(len(a.rows)), a.at_border) if i not in matched]
    if not free:
        return []
    inside = rle.iou([a.codes[i] for i in free], b.codes, within=True).numpy() >= INSIDE
    inside &= _of_one_class(a, b)[free]
    offers = []
    for j in np.flatnonzero(inside.any(0)).tolist():
        first = [partner[j]] if j in partner else []
        pieces, union_iou = _largest_union(
            a, first, [free[row] for row in np.flatnonzero(inside[:, j])], b.codes[j]
        )
        if union_iou >= UNION_IOU and len(pieces) > 1:
            offers.append((union_iou, j, [i for i in pieces if i not in first]))
    found: list[tuple[int, int]] = []
    taken: set[int] = set()
    for _, j, pieces in sorted(offers, key=lambda offer: -offer[0]):
        if taken.isdisjoint(pieces):
            taken.update(pieces)
            found += [(i, j) for i in pieces]
    return found


def _largest_union(
    a: Edge, first: list[int], others: list[int], whole: Rle
) -> tuple[list[int], float]:
    """Return pieces that do not overlap, added largest first, and the IoU of their union with
    `whole`. first: pieces already matched with it."""
    areas = rle.areas([a.codes[i] for i in others]).tolist()
    pieces = list(first)
    for _, i in sorted(zip(areas, others, strict=True), key=lambda item: -item[0]):
        overlaps = rle.iou([a.codes[i]], [a.codes[k] for k in pieces], within=True)
        if not pieces or overlaps.sum().item() <= 1 - INSIDE:
            pieces.append(i)
    return pieces, rle.iou([rle.union([a.codes[i] for i in pieces])], [whole]).item()


def in_image(segments: Segments, tile: Box, size: Size) -> Segments:
    """Return a tile's segments in px of the image of (H, W) px, with the tile as their crop."""
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


def merge_linked(segments: Segments, links: Sequence[tuple[int, int]]) -> Segments:
    """Return segments of an image with linked ones merged, best first.

    A merged mask keeps the prompt, the scores and the crop of its largest part.
    """
    roots = _roots(len(segments), links)
    areas = segments.areas.tolist()
    order = sorted(range(len(roots)), key=lambda row: (roots[row], -areas[row]))
    kept, codes = [], []
    for _, group in groupby(order, key=roots.__getitem__):
        rows = list(group)
        kept.append(rows[0])
        parts = [segments.rles[row] for row in rows]
        codes.append(parts[0] if len(parts) == 1 else rle.union(parts))
    found = segments[torch.tensor(kept, dtype=torch.long)]
    boxes = torch.from_numpy(rle.boxes(codes)).to(found.boxes)
    boxes[:, 2:] += boxes[:, :2] - 1
    found = replace(found, rles=codes, boxes=boxes)
    return found[found.scores.argsort(descending=True, stable=True)]


def _roots(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first row of each row's connected component (union-find)."""
    parents = list(range(count))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for a, b in links:
        first, second = sorted((root(a), root(b)))
        parents[second] = first
    return [root(row) for row in range(count)]
