"""Picks: which regions answer a prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everything.bundled.click_regions import Clicks, chains
from everything.bundled.region_tree import Floats, Ints, Regions

SEVERAL = 64  # regions that agree with several points: the likeliest are looked at
LIKELY = 16  # regions around a click that are looked at, the likeliest


def of_clicks(regions: Regions, clicks: Clicks, vote: Floats, count: int) -> tuple[Ints, Floats]:
    """Return `count` regions for each of C clicks, int64 (C, count), small to large, and for each
    its IoU with what is meant, as it is on average, float64 (C, count).

    They are those whose best IoU with the region that is meant is largest on average, when the
    softmax of `vote`, float (C, D), over the regions around a click says what is meant. Such a
    choice is a facility location, and greedy choice comes close to the best one (Nemhauser,
    Wolsey and Fisher, 1978). Regions around a click are nested: their IoU is the ratio of their
    areas. A chain with fewer regions repeats its last pick.
    """
    expected = overlap(regions.area[clicks.nodes], clicks.new, vote)
    vote = np.where(clicks.new, vote, -np.inf)
    likely = np.sort(np.argsort(-vote, axis=1, kind="stable")[:, :LIKELY], axis=1)
    nodes = np.take_along_axis(clicks.nodes, likely, 1)
    vote = np.take_along_axis(vote, likely, 1)
    sizes = regions.area[nodes].astype(np.float32)
    a, b = sizes[:, :, None], sizes[:, None]
    alike = np.minimum(a, b) / np.maximum(a, b)
    picks = _greedy(nodes, vote > -np.inf, alike, _share(vote), count)
    picks = _by_area(picks, regions.area)
    column = (clicks.nodes[:, None] == picks[..., None]).argmax(2)
    return picks, np.take_along_axis(expected, column, 1)


def overlap(area: Floats, new: NDArray[np.bool_], vote: Floats) -> Floats:
    """Return the IoU of nested regions with the one that is meant, as it is on average, float64
    (C, D), when the softmax of `vote` over each row says which one that is.

    area: float64 (C, D), small to large. new: bool (C, D), false behind a row's end, where the
    vote does not count. The IoU of two is the ratio of their areas, so sums from the left and from
    the right make all pairs.
    """
    share = _share(np.where(new, vote, -np.inf)).astype(np.float64)
    per_area = share / area
    smaller = np.cumsum(share * area, 1) / area
    larger = (per_area.sum(1, keepdims=True) - np.cumsum(per_area, 1)) * area
    found: Floats = smaller + larger
    return found


def at_best(regions: Regions, vote: Floats) -> Floats:
    """Return for every region the IoU with what is meant, float64 (N,), where a click in it can
    best mean it: as `overlap` has it, of the regions around each of its basins in turn."""
    nodes, new = chains(regions, np.arange(len(regions.basin)))
    expected = overlap(regions.area[nodes], new, vote[nodes])
    best = np.zeros(len(regions))
    np.maximum.at(best, nodes[new], expected[new])
    return best


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


def _among(regions: Regions, vote: Floats, among: Ints, count: int) -> Ints:
    """The same choice among regions that need not be nested."""
    # The likeliest few stand for all: thousands of regions would make millions of pairs.
    among = among[np.argsort(-vote[among], kind="stable")[:SEVERAL]]
    first, last, area = regions.first[among], regions.last[among], regions.area[among]
    holds = (first[:, None] <= first) & (last[:, None] >= last)
    small, large = np.minimum(area[:, None], area), np.maximum(area[:, None], area)
    alike = np.where(holds | holds.T, small / large, 0)[None]
    new = np.ones((1, len(among)), bool)
    picks = _greedy(among[None], new, alike, _share(vote[among][None]), count)
    ordered: Ints = _by_area(picks, regions.area)[0]
    return ordered


def _share(vote: Floats) -> Floats:
    weight = np.exp(vote - vote.max(1, keepdims=True)).astype(np.float32)
    share: Floats = weight / weight.sum(1, keepdims=True)
    return share


def _greedy(nodes: Ints, free: NDArray[np.bool_], alike: Floats, share: Floats, count: int) -> Ints:
    """Pick so that the mean, by share (B, D), of the best likeness (B, D, D) grows most."""
    rows = np.arange(len(nodes))
    free, reached = free.copy(), np.zeros(nodes.shape, np.float32)
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
