"""Masks as exact polygons along the edges of their pixels, with holes and parts.

Pixel i covers [i, i + 1), so that the ring of one pixel is its four corners.
Parts that touch only at a corner are separate parts: each ring is simple, as GeoJSON requires.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everything.core import rle
from everything.core.geometry import Size
from everything.core.rle import compressed

Ring = NDArray[np.int32]  # (K, 2) xy px, not closed


class Part(NamedTuple):
    """A connected part of a mask: the ring around it and the rings of its holes."""

    shell: Ring
    holes: list[Ring]


def parts_of(mask: NDArray[np.bool_]) -> list[Part]:
    """Return the parts of a mask bool (h, w), connected along pixel edges.

    Shells run clockwise as seen on the screen (y down), holes the other way.
    """
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.int32)
    count = ndimage.label(mask, output=padded[1:-1, 1:-1])
    shells: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {number: [] for number in range(1, count + 1)}
    for loop in _loops(mask):
        for ring in _simple(loop):
            # Its upper left corner: the pixel below belongs to the part if this is a shell.
            x, y = min(ring, key=lambda corner: (corner[1], corner[0]))
            if inside := int(padded[y + 1, x + 1]):
                shells[inside] = _turned(ring, 1)
            else:
                holes[int(padded[y, x + 1])].append(_turned(ring, -1))
    return [Part(shells[number], holes[number]) for number in sorted(shells)]


def _loops(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Closed walks along the edges of a mask, by their corners (x, y).

    In every row of corners the first is joined with the second, the third with the fourth and so
    on by a horizontal edge, in every column likewise. Where two pixels touch at a corner, it counts
    twice and the walks go around each pixel of the mask by itself.
    """
    m = np.pad(mask, 1).astype(np.int8)
    a, b, c, d = m[:-1, :-1], m[:-1, 1:], m[1:, :-1], m[1:, 1:]
    total = a + b + c + d
    crossing = (total == 2) & (a == d)
    corner = (total % 2 == 1) | crossing
    y, x = np.nonzero(corner)
    twice = crossing[y, x]
    y, x = np.repeat(y, 1 + twice), np.repeat(x, 1 + twice)
    # The second of two equal corners; the first has the edge to the left.
    second = np.zeros(len(x), np.int64)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    # Of pixels left above and right below, the left edge goes with the upper one, else the lower.
    order = np.lexsort((np.where(b[y, x] == 1, 1 - second, second), y, x))
    down = np.empty(len(x), np.int64)
    down[order[0::2]], down[order[1::2]] = order[1::2], order[0::2]
    return _walks(x.tolist(), y.tolist(), down.tolist())


def _walks(x: list[int], y: list[int], down: list[int]) -> list[list[tuple[int, int]]]:
    """Follow horizontal and vertical edges in turn; corners are sorted by rows, so that 0 and 1, 2
    and 3 and so on share a horizontal edge."""
    loops, seen = [], bytearray(len(x))
    for start in range(len(x)):
        if seen[start]:
            continue
        loop, corner = [], start
        while not seen[corner]:
            across = corner ^ 1
            seen[corner] = seen[across] = 1
            loop += [(x[corner], y[corner]), (x[across], y[across])]
            corner = down[across]
        loops.append(loop)
    return loops


def _simple(loop: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut a walk that passes a corner twice into rings that do not."""
    rings: list[list[tuple[int, int]]] = []
    path: list[tuple[int, int]] = []
    places: dict[tuple[int, int], int] = {}
    for corner in loop:
        if corner in places:
            first = places[corner]
            rings.append(path[first:])
            for passed in path[first + 1 :]:
                del places[passed]
            del path[first + 1 :]
        else:
            places[corner] = len(path)
            path.append(corner)
    return [*rings, path]


def _turned(ring: list[tuple[int, int]], turn: int) -> Ring:
    points = np.array(ring, np.int32)
    return points if np.sign(doubled_area(points)) == turn else points[::-1]


def painted(parts: list[Part], size: Size) -> NDArray[np.bool_]:
    """Return the mask bool (h, w) that readers of the polygons get (by COCO's rasteriser)."""
    mask = np.zeros(size, np.bool_)
    for shell, holes in parts:
        corner, end = shell.min(0), np.minimum(shell.max(0), size[::-1])
        (x0, y0), (x1, y1) = corner.tolist(), end.tolist()
        inside = _inside(shell - corner, (y1 - y0, x1 - x0))
        for hole in holes:
            inside &= ~_inside(hole - corner, (y1 - y0, x1 - x0))
        mask[y0:y1, x0:x1] |= inside
    return mask


def _inside(ring: Ring, size: Size) -> NDArray[np.bool_]:
    code = compressed([ring.ravel().astype(float).tolist()], size)
    inside: NDArray[np.bool_] = rle.decode([code], size)[0]
    return inside


def doubled_area(ring: Ring) -> float:
    """Return twice the area of a ring, positive if it is clockwise as seen on the screen."""
    x, y = ring.astype(np.int64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
