"""What the scorer looks at in a region."""

from __future__ import annotations

import higra as hg
import numpy as np
from numpy.typing import NDArray

from everything.bundled.region_tree import Floats, Partition, Regions

TINY = 1e-6
FEATURES = (
    "log share of the photo",
    "altitude: boundary at which its halves met",
    "parent's altitude",
    "rise: parent's altitude - altitude",
    "rise / parent's altitude",
    "parent's rise",
    "parent's altitude / root's",
    "sibling's altitude",
    "log parent's area / area",
    "log sibling's area / area",
    "log depth",
    "log number of regions",
    "mean boundary on the contour",
    "its deviation",
    "mean boundary on inner borders",
    "contour - inner",
    "mean boundary in all pixels",
    "compactness, 4 pi area / perimeter^2",
    "share of the photo's edge in the perimeter",
    "mean boundary of the photo",
    "share of the box",
    "log elongation",
    "height in the photo",
    "area / spread",
    "deviation of colour",
    "contrast of colour to the sibling",
)


def describe(
    part: Partition, regions: Regions, boundary: Floats, colours: Floats
) -> NDArray[np.float32]:
    """Return the features of every region, float32 (N, F).

    boundary: float64 (h, w). colours: float64 (h, w, 3) of opponent colours in about [-1, 1].
    """
    columns = (
        _hierarchy(part, regions)
        + _contours(part, regions, boundary)
        + _shapes(part, regions)
        + _colours(part, regions, colours)
    )
    return np.stack(columns, 1).astype(np.float32)


def _hierarchy(part: Partition, regions: Regions) -> list[Floats]:
    """Where a region stands in the tree: how long it lasts until it merges, and with what."""
    parents, altitude, area = regions.parents, regions.altitude, regions.area
    up = altitude[parents]
    top = altitude[-1] + TINY
    sibling = _sibling(parents)
    depth = hg.attribute_depth(part.tree).astype(np.float64)
    share = np.log(area / regions.place.size)
    return [
        share,
        altitude,
        up,
        up - altitude,
        (up - altitude) / (up + TINY),
        altitude[parents[parents]] - up,
        up / top,
        altitude[sibling],
        np.log(area[parents] / area),
        np.log(area[sibling] / area),
        np.log1p(depth),
        np.full(len(area), np.log(len(area))),
    ]


def _contours(part: Partition, regions: Regions, boundary: Floats) -> list[Floats]:
    """How strong the boundary is along a region's contour, and inside it."""
    around, inside = zip(*(_split(part, v) for v in _edge_sums(part)), strict=True)
    length, strength, squares = around
    mean = strength / np.maximum(length, 1)
    deviation = np.sqrt(np.maximum(squares / np.maximum(length, 1) - mean * mean, 0))
    inner = inside[1] / np.maximum(inside[0], 1)
    total = _sum(part, boundary.ravel())
    frame = _sum(part, _frame(part.labels.shape))
    area = regions.area
    return [
        mean,
        deviation,
        inner,
        mean - inner,
        total / area,
        4 * np.pi * area / (length + frame + TINY) ** 2,
        frame / (length + frame + TINY),
        np.full(len(area), boundary.mean()),
    ]


def _shapes(part: Partition, regions: Regions) -> list[Floats]:
    """How well a region fills its box, how drawn out it is, and how far down it lies."""
    height, width = part.labels.shape
    y, x = (v.ravel().astype(np.float64) for v in np.indices((height, width)))
    x1, y1, xx, yy, xy = (_sum(part, v) / regions.area for v in (x, y, x * x, y * y, x * y))
    xx, yy, xy = xx - x1 * x1 + 1 / 12, yy - y1 * y1 + 1 / 12, xy - x1 * y1
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    boxes = regions.boxes.astype(np.float64)
    fill = regions.area / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    elongation = np.log((xx + yy + spread) / np.maximum(xx + yy - spread, TINY))
    return [fill, elongation, y1 / height, regions.area / np.sqrt(xx * yy)]


def _colours(part: Partition, regions: Regions, colours: Floats) -> list[Floats]:
    """How uniform a region's colour is, and how unlike its sibling's."""
    area = regions.area
    sibling = _sibling(regions.parents)
    deviation, contrast = np.zeros(len(area)), np.zeros(len(area))
    for channel in range(3):
        values = colours[..., channel].ravel()
        mean = _sum(part, values) / area
        deviation += _sum(part, values * values) / area - mean * mean
        contrast += (mean - mean[sibling]) ** 2
    return [np.sqrt(np.maximum(deviation, 0)), np.sqrt(contrast)]


def _sibling(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The other child of a node's parent; the root is its own."""
    nodes = np.arange(len(parents))
    children = np.bincount(parents[:-1], weights=nodes[:-1], minlength=len(parents))
    sibling = children[parents].astype(np.int64) - nodes
    sibling[-1] = len(parents) - 1
    return sibling


def _sum(part: Partition, values: Floats) -> Floats:
    """Sums of pixel values over every region."""
    leaves = part.tree.num_leaves()
    sums = np.bincount(part.labels.ravel(), weights=values, minlength=leaves)
    total: Floats = hg.accumulate_sequential(part.tree, sums, hg.Accumulators.sum)
    return total


def _edge_sums(part: Partition) -> tuple[Floats, Floats, Floats]:
    return part.length, part.strength, part.squares


def _split(part: Partition, values: Floats) -> tuple[Floats, Floats]:
    """Sums of values of basin borders around every region and inside it.

    A border is inside the smallest region with both its sides and all above; it is around those
    that have one side only.
    """
    nodes, leaves = part.tree.num_vertices(), part.tree.num_leaves()
    a, b = part.sides[:, 0], part.sides[:, 1]
    touching = np.bincount(a, values, leaves) + np.bincount(b, values, leaves)
    if len(values) == 0:
        return np.zeros(nodes), np.zeros(nodes)
    meeting = np.asarray(part.tree.lowest_common_ancestor(a, b))
    own = np.bincount(meeting, values, nodes)
    inside: Floats = hg.accumulate_and_add_sequential(
        part.tree, own, np.zeros(leaves), hg.Accumulators.sum
    )
    every = hg.accumulate_sequential(part.tree, touching, hg.Accumulators.sum)
    return every - 2 * inside, inside


def _frame(shape: tuple[int, ...]) -> Floats:
    """How many of a pixel's sides lie on the image's edge."""
    sides = np.zeros(shape)
    sides[0] += 1
    sides[-1] += 1
    sides[:, 0] += 1
    sides[:, -1] += 1
    return sides.ravel()
