"""Picks: which regions answer a prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everything.embedded.regions import Floats, Ints, Regions

TOGETHER = 128  # chains that are looked at together, which bounds memory


def of_clicks(regions: Regions, vote: Floats, basins: Ints, count: int) -> Ints:
    """Return `count` regions for a click into each of B basins, int64 (B, count), small to large.

    They are those whose best IoU with the region that is meant is largest on average, when the
    softmax of `vote`, float64 (N,), over the regions around the click says what is meant. Such a
    choice is a facility location, and greedy choice comes close to the best one (Nemhauser,
    Wolsey and Fisher, 1978). Regions around a click are nested: their IoU is the ratio of their
    areas. A chain with fewer regions repeats its last pick.
    """
    nodes, new = chains(regions, basins)
    picked = [
        _cover(nodes[s], new[s], vote, regions.area, count)
        for s in (slice(i, i + TOGETHER) for i in range(0, len(nodes), TOGETHER))
    ]
    return _by_area(np.concatenate(picked or [np.zeros((0, count), np.int64)]), regions.area)


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


def of_points(regions: Regions, vote: Floats, inside: Ints, outside: Ints, count: int) -> Ints:
    """Return `count` regions that hold the most of the basins `inside` and the fewest of
    `outside`, int64 (count,), small to large; see `of_clicks` for the choice among these."""
    agreement = np.zeros(len(regions))
    for basins, sign in ((inside, 1.0), (outside, -1.0)):
        for basin in basins:
            agreement[regions.chain(int(basin))] += sign
    among = np.flatnonzero(agreement == agreement.max())
    return _among(regions, vote, among, count)


def of_box(regions: Regions, box: Floats, count: int) -> tuple[Ints, Floats]:
    """Return the `count` regions whose own boxes fit a box (4,) xyxy best, int64 (count,), small
    to large, and the IoU of the boxes, float64 (count,)."""
    fit = box_fit(regions, box)
    best = np.argsort(-fit, kind="stable")[:count]
    best = np.pad(best, (0, count - len(best)), mode="edge")
    ordered: Ints = best[np.argsort(regions.area[best], kind="stable")]
    return ordered, fit[ordered]


def box_fit(regions: Regions, box: Floats) -> Floats:
    """Return the IoU of every region's box with a box (4,) xyxy, float64 (N,)."""
    own = regions.boxes
    sides = np.minimum(own[:, 2:], box[2:]) - np.maximum(own[:, :2], box[:2])
    shared = np.clip(sides, 0, None).prod(1)
    either = (own[:, 2:] - own[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    fit: Floats = shared / np.maximum(either, 1e-9)
    return fit


def _cover(nodes: Ints, new: NDArray[np.bool_], vote: Floats, area: Floats, count: int) -> Ints:
    sizes = area[nodes].astype(np.float32)
    alike = np.minimum(sizes[:, :, None], sizes[:, None]) / np.maximum(
        sizes[:, :, None], sizes[:, None]
    )
    return _greedy(nodes, new, alike, _share(vote[nodes], new), count)


def _among(regions: Regions, vote: Floats, among: Ints, count: int) -> Ints:
    """The same choice among regions that need not be nested."""
    # The likeliest few stand for all: thousands of regions would make millions of pairs.
    among = among[np.argsort(-vote[among], kind="stable")[:TOGETHER]]
    first, last, area = regions.first[among], regions.last[among], regions.area[among]
    holds = (first[:, None] <= first) & (last[:, None] >= last)
    small, large = np.minimum(area[:, None], area), np.maximum(area[:, None], area)
    alike = np.where(holds | holds.T, small / large, 0)[None]
    new = np.ones((1, len(among)), bool)
    picks = _greedy(among[None], new, alike, _share(vote[among][None], new), count)
    ordered: Ints = _by_area(picks, regions.area)[0]
    return ordered


def _share(vote: Floats, new: NDArray[np.bool_]) -> Floats:
    weight = np.where(new, np.exp(vote - vote.max(1, keepdims=True)), 0)
    share: Floats = weight / weight.sum(1, keepdims=True)
    return share


def _greedy(nodes: Ints, free: NDArray[np.bool_], alike: Floats, share: Floats, count: int) -> Ints:
    """Pick so that the mean, by share (B, D), of the best likeness (B, D, D) grows most."""
    rows = np.arange(len(nodes))
    free, reached = free.copy(), np.zeros(nodes.shape)
    picks = np.empty((len(nodes), count), np.int64)
    for turn in range(count):
        gain = (np.maximum(alike, reached[:, None]) * share[:, None]).sum(2)
        best = np.where(free, gain, -1).argmax(1)
        picks[:, turn] = nodes[rows, best]
        if turn:
            none_left = ~free.any(1)
            picks[none_left, turn] = picks[none_left, turn - 1]
        reached = np.maximum(reached, alike[rows, best])
        free[rows, best] = False
    return picks


def _by_area(picks: Ints, area: Floats) -> Ints:
    order = np.argsort(area[picks], axis=1, kind="stable")
    return np.take_along_axis(picks, order, 1)
