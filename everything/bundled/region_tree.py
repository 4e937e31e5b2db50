"""The region tree of an image: its ultrametric contour map, with what is known of every region.

Basins of the boundary map are merged two by two, the pair with the weakest mean boundary first
(Arbeláez, Maire, Fowlkes and Malik, PAMI 2011, section 3). Every region that ever existed is a
node. Nodes are numbered as in higra: basins first, parents after their children, the root last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import higra as hg
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BASIN_DEPTH = 0.005  # of boundary; basins that overflow sooner are slices of one valley
BASIN_AREA = 20  # px; smaller basins are noise and join a neighbour before the tree is built


@dataclass(frozen=True)
class Regions:
    """The N regions of a canvas (h, w) px, L of them basins.

    place: int32 (h, w), for each pixel the place of its basin in a row in which every region's
    basins stand together, so that pixels with first <= place < last are a region. basin: int64
    (L,), the basin at each place. first, last, parents: int64 (N,), the root is its own parent.
    area: float64 (N,) px. centres: float64 (N, 2) xy px. boxes: int64 (N, 4) xyxy, x1 and y1
    exclusive. altitude: float64 (N,), the boundary at which a region's two halves met.
    """

    place: NDArray[np.int32]
    basin: Ints
    first: Ints
    last: Ints
    parents: Ints
    area: Floats
    centres: Floats
    boxes: Ints
    altitude: Floats

    def __len__(self) -> int:
        return len(self.parents)

    def at(self, x: Ints, y: Ints) -> Ints:
        """Return the basins at pixels, int64 (P,) each."""
        found: Ints = self.basin[self.place[y, x]]
        return found

    def chain(self, node: int) -> Ints:
        """Return a region and all that contain it, the smallest first, int64."""
        chain = [node]
        while self.parents[node] != node:
            node = int(self.parents[node])
            chain.append(node)
        return np.array(chain)

    def mask(self, node: int) -> NDArray[np.bool_]:
        """Return where a region is, bool (h, w)."""
        inside: NDArray[np.bool_] = (self.place >= self.first[node]) & (
            self.place < self.last[node]
        )
        return inside


@dataclass(frozen=True)
class Partition:
    """Basins, who borders on whom, and the tree of their mergers, as higra's objects.

    labels: int64 (h, w), basin of each pixel. sides: int64 (E, 2), basins that touch. length,
    strength, squares: float64 (E,), number of pixel pairs across a shared border and the sums of
    their boundary and its square. tree: hg.Tree. altitude: float64 (N,).
    """

    labels: Ints
    sides: Ints
    length: Floats
    strength: Floats
    squares: Floats
    tree: Any
    altitude: Floats


def partition(boundary: Floats) -> Partition:
    """Return basins and merge tree of a boundary map, float64 (h, w), not negative."""
    pixels = _grid(*boundary.shape)
    weights = hg.weight_graph(pixels, boundary.ravel(), hg.WeightFunction.mean)
    basins = hg.labelisation_watershed(pixels, weights)
    fine = hg.make_region_adjacency_graph_from_labelisation(pixels, basins)
    if fine.num_vertices() == 1:
        return _undivided(boundary.shape)
    basin_of = _vertices(fine)
    area = np.bincount(basin_of).astype(np.float64)
    bottom = np.full(len(area), np.inf)
    np.minimum.at(bottom, basin_of, boundary.ravel())
    merged = _without_tiny(fine, weights, area, bottom)
    coarse = hg.make_region_adjacency_graph_from_labelisation(fine, merged)
    if coarse.num_vertices() == 1:
        return _undivided(boundary.shape)
    length, strength, squares = (
        _total(coarse, _total(fine, w)) for w in (np.ones_like(weights), weights, weights**2)
    )
    mean = strength / length
    tree, altitude = hg.binary_partition_tree_average_linkage(coarse, mean, length)
    sides = np.stack(coarse.edge_list()[:2], 1).astype(np.int64)
    labels = _vertices(coarse)[basin_of].reshape(boundary.shape)
    return Partition(labels, sides, length, strength, squares, tree, np.asarray(altitude))


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> Any:
    """Pixels and their 4-neighbours; a job's images have few sizes, and higra is slow here."""
    return hg.get_4_adjacency_graph((height, width))


def _undivided(shape: tuple[int, ...]) -> Partition:
    """The canvas as one region, which has no borders."""
    none, tree = np.zeros(0), hg.Tree(np.zeros(1, np.int64))
    labels = np.zeros(shape, np.int64)
    return Partition(labels, np.zeros((0, 2), np.int64), none, none, none, tree, np.zeros(1))


def _without_tiny(adjacency: Any, weights: Floats, area: Floats, bottom: Floats) -> Ints:
    """Labels of basins after the tiny and the shallow ones have joined a neighbour, each through
    its lowest pass.

    area: px of each basin. bottom: its lowest boundary.
    """
    passes = hg.rag_accumulate_on_edges(adjacency, hg.Accumulators.min, edge_weights=weights)
    tree, altitude = hg.bpt_canonical(adjacency, passes)
    count = tree.num_leaves()
    area = hg.accumulate_sequential(tree, area, hg.Accumulators.sum)
    bottom = hg.accumulate_sequential(tree, bottom, hg.Accumulators.min)
    smaller = hg.accumulate_parallel(tree, area, hg.Accumulators.min)[count:]
    depth = (altitude - hg.accumulate_parallel(tree, bottom, hg.Accumulators.max))[count:]
    lost = (smaller < BASIN_AREA) | (depth < BASIN_DEPTH)
    # Mergers, in order, are the edges of the minimum spanning tree.
    a, b = hg.CptBinaryHierarchy.get_mst(tree).edge_list()[:2]
    joined = coo_array((lost[lost], (a[lost], b[lost])), shape=(count, count))
    labels: Ints = connected_components(joined, directed=False)[1].astype(np.int64)
    return labels


def _total(adjacency: Any, weights: Floats) -> Floats:
    """Sums of a finer graph's edge weights over the edges of the adjacency graph made from it."""
    total: Floats = hg.rag_accumulate_on_edges(adjacency, hg.Accumulators.sum, edge_weights=weights)
    return total


def _vertices(adjacency: Any) -> Ints:
    """For each vertex of the finer graph, the vertex of the adjacency graph made from it."""
    found: Ints = hg.CptRegionAdjacencyGraph.construct(adjacency)["vertex_map"].ravel()
    return found.astype(np.int64)


def regions(part: Partition) -> Regions:
    """Return the regions of a partition: their ranges, boxes and areas."""
    parents = np.asarray(part.tree.parents(), np.int64)
    leaves = part.tree.num_leaves()
    first, last = _ranges(parents, leaves)
    basin = np.empty(leaves, np.int64)
    basin[first[:leaves]] = np.arange(leaves)
    flat, size = part.labels.ravel(), part.labels.shape
    y, x = (v.ravel() + 0.5 for v in np.indices(size))
    # Sums over basins of 1, x and y, then over regions.
    moments = np.stack([np.bincount(flat, v, leaves) for v in (np.ones(flat.size), x, y)], 1)
    moments = hg.accumulate_sequential(part.tree, moments, hg.Accumulators.sum)
    return Regions(
        place=first[part.labels].astype(np.int32),
        basin=basin,
        first=first,
        last=last,
        parents=parents,
        area=moments[:, 0],
        centres=moments[:, 1:] / moments[:, :1],
        boxes=_boxes(part, leaves),
        altitude=part.altitude,
    )


def _ranges(parents: Ints, leaves: int) -> tuple[Ints, Ints]:
    """Places [first, last) of every node's basins when each node hands its range to its children
    in turn, from the root down."""
    size = np.zeros(len(parents), np.int64)
    size[:leaves] = 1
    up = parents.tolist()
    sizes = size.tolist()
    for node in range(len(up) - 1):
        sizes[up[node]] += sizes[node]
    last = [0] * len(up)
    last[-1] = free = leaves
    left = last.copy()  # where the next child's range ends
    left[-1] = free
    for node in range(len(up) - 2, -1, -1):
        last[node] = left[node] = left[up[node]]
        left[up[node]] -= sizes[node]
    ends = np.array(last)
    return ends - np.array(sizes), ends


def _boxes(part: Partition, leaves: int) -> Ints:
    y, x = np.indices(part.labels.shape)
    flat = part.labels.ravel()
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(leaves))
    xs, ys = x.ravel()[order], y.ravel()[order]
    low = np.stack([np.minimum.reduceat(v, starts) for v in (xs, ys)], 1).astype(np.float64)
    high = np.stack([np.maximum.reduceat(v, starts) for v in (xs, ys)], 1).astype(np.float64)
    low = hg.accumulate_sequential(part.tree, low, hg.Accumulators.min)
    high = hg.accumulate_sequential(part.tree, high, hg.Accumulators.max)
    return np.concatenate([low, high + 1], 1).astype(np.int64)
