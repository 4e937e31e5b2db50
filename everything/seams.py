"""Masks of overlapping tiles joined into masks of the image.

Where two tiles overlap, both have seen the same pixels. A mask of one and a mask of the other that
agree there are one object: of all pairs the best by IoU within the overlap are joined, each mask
with one mask of a neighbour at most, and whoever is joined with a common third becomes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from everything import rle
from everything.rle import Rle
from everything.segments import Segments
from everything.view import Box, Size


@dataclass(frozen=True)
class Edge:
    """What a tile's masks are within its overlap with a neighbour.

    rows: of the masks that are there, in the list of all. codes: over the overlap alone.
    """

    rows: list[int]
    codes: list[Rle]


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
    rows, codes = [], []
    b = segments.boxes
    near = (b[:, 0] < x1) & (b[:, 2] >= x0) & (b[:, 1] < y1) & (b[:, 3] >= y0)
    for row in near.nonzero()[:, 0].tolist():
        mask, (x, y) = rle.cut(segments.rles[row])
        left, top = max(0, x0 - x), max(0, y0 - y)
        part = mask[top : max(0, y1 - y), left : max(0, x1 - x)]
        if part.any():
            rows.append(first + row)
            codes.append(rle.encode(part, (x + left - x0, y + top - y0), size))
    return Edge(rows, codes)


def pairs(a: Edge, b: Edge, least: float) -> list[tuple[int, int]]:
    """Return the rows of masks that agree within an overlap by an IoU of at least `least`."""
    found: list[tuple[int, int]] = []
    if not a.rows or not b.rows:
        return found
    agreement = rle.iou(a.codes, b.codes).numpy()
    rows, columns = np.nonzero(agreement >= least)
    taken: tuple[set[int], set[int]] = (set(), set())
    for pick in np.argsort(-agreement[rows, columns], kind="stable").tolist():
        i, j = int(rows[pick]), int(columns[pick])
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            found.append((a.rows[i], b.rows[j]))
    return found


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
    )


def joined(segments: Segments, links: Sequence[tuple[int, int]]) -> Segments:
    """Return segments of an image with linked ones made one, best first.

    The largest part gives a joined mask its prompt, its scores and its crop.
    """
    heads = _heads(len(segments), links)
    areas = segments.areas().tolist()
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
    found = Segments(
        codes, boxes, found.scores, found.stability, found.levels, found.prompts, found.crops
    )
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
