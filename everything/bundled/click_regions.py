"""Clicks: the regions around a click, and where in each of them it lies.

People click things in the middle. Of the regions around a click the one that has it in its middle
is therefore more likely meant than one that has it near its contour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everything.bundled.region_tree import Ints, Regions

RAYS = 16
RADII = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 86, 115, 154, 205)  # px, a third apart
PLACE = ("log depth", "log depth / root of area", "distance from the centre / root of area")


@dataclass(frozen=True)
class Clicks:
    """C clicks and up to D regions around each, small to large.

    nodes: int64 (C, D). new: bool (C, D), false where the chain has ended and the root is
    repeated. place: float32 (C, D, 3), see PLACE; depth is the distance to the contour in px.
    """

    nodes: Ints
    new: NDArray[np.bool_]
    place: NDArray[np.float32]

    @classmethod
    def at(cls, regions: Regions, points: Ints) -> Clicks:
        """Return clicks on pixels (C, 2) xy, all of them inside the canvas."""
        nodes, new = chains(regions, regions.at(points[:, 0], points[:, 1]))
        root_area = np.sqrt(regions.area[nodes])
        depth = _depth(regions, points, nodes) / root_area
        away = points[:, None] + 0.5 - regions.centres[nodes]
        middle = np.sqrt((away**2).sum(2)) / root_area
        place = np.stack([np.log(depth * root_area), np.log(depth), middle], 2)
        return cls(nodes, new, place.astype(np.float32))

    def __len__(self) -> int:
        return len(self.nodes)


def chains(regions: Regions, basins: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the regions around each of B basins, small to large, int64 (B, D), and where they are
    not the root repeated, bool (B, D)."""
    columns = [basins]
    while (up := regions.parents[columns[-1]]).size and (up != columns[-1]).any():
        columns.append(up)
    nodes = np.stack(columns, 1)
    new = np.ones(nodes.shape, bool)
    new[:, 1:] = nodes[:, 1:] != nodes[:, :-1]
    return nodes, new


def _depth(regions: Regions, points: Ints, nodes: Ints) -> NDArray[np.float64]:
    """Distances (C, D) from clicks to the contours of regions around them, looked for along rays.

    Regions are nested, so a place that is in none but the largest is outside all others.
    """
    height, width = regions.place.shape
    angles = np.arange(RAYS) * (2 * np.pi / RAYS)
    steps = np.rint(np.stack([np.cos(angles), np.sin(angles)], 1) * np.array(RADII)[:, None, None])
    x = points[:, :1] + steps[..., 0].ravel()[None].astype(np.int64)
    y = points[:, 1:] + steps[..., 1].ravel()[None].astype(np.int64)
    beyond = (x < 0) | (y < 0) | (x >= width) | (y >= height)
    place = regions.place[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    place[beyond] = -1  # in no region at all
    first, last = regions.first[nodes], regions.last[nodes]
    depth = np.full(nodes.shape, float(RADII[-1]) * 4 / 3)
    for i in range(len(RADII) - 1, -1, -1):
        ring = place[:, i * RAYS : (i + 1) * RAYS]
        low, high = ring.min(1)[:, None], ring.max(1)[:, None]
        # A region is a range of places: it holds the ring if it holds its ends.
        depth[(low < first) | (high >= last)] = RADII[i]
    return depth
