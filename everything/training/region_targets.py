"""Which regions of a tree are right: the truth that the scorer is fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everything.bundled.boundary_net import BoundaryNetwork
from everything.bundled.click_regions import Clicks
from everything.bundled.region_tree import Floats, Ints, Regions
from everything.bundled.ucm import describe_regions, find_contours
from everything.io.datasets.label_maps import LabelledImage, Labels

SMALLEST = 100  # px; smaller segments are left out, as in the goals


@dataclass(frozen=True)
class ScoredRegions:
    """The N regions of an image held against its G segments of all annotators.

    features: float32 (N, F). overlap: float64 (N, G), IoU. areas: int64 (G,), of the segments, px.
    clicks: C of them. meant: int64 (C,), the segment that each means; the first G clicks
    are at the points of the segments that lie furthest from their contours.
    """

    regions: Regions
    features: NDArray[np.float32]
    overlap: Floats
    areas: Ints
    clicks: Clicks
    meant: Ints


def score_regions(
    network: BoundaryNetwork,
    truth: LabelledImage,
    random: np.random.Generator,
    extra_clicks: int = 2,
) -> ScoredRegions:
    """Return how right the regions of an image are. Raises ValueError if nothing is marked.

    extra_clicks: random ones into each segment, beside the one in its middle.
    """
    found, features = describe_regions(find_contours(network, truth.pixels))
    overlap, areas, middle, others = [], [], [], []
    for labels in truth.labels:
        numbers = np.flatnonzero(np.bincount(labels.ravel())[1:] >= SMALLEST) + 1
        overlap.append(_overlap(found, labels, numbers))
        for number in numbers:
            middle.append(deepest_point(labels == number))
            ys, xs = np.nonzero(labels == number)
            chosen = random.integers(0, len(ys), extra_clicks)
            others.append(np.stack([xs[chosen], ys[chosen]], 1))
            areas.append(len(ys))
    if not areas:
        raise ValueError(f"{truth.name}: no segment of {SMALLEST} px or more is marked")
    segments = np.arange(len(areas))
    points = np.concatenate([np.array(middle), *others])
    meant = np.concatenate([segments, np.repeat(segments, extra_clicks)])
    clicks = Clicks.at(found, points)
    return ScoredRegions(
        found, features, np.concatenate(overlap, 1), np.array(areas), clicks, meant
    )


def deepest_point(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel (x, y) of a mask (h, w) that is furthest from what is not the mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    distance = ndimage.distance_transform_edt(part)
    y, x = np.unravel_index(int(distance.argmax()), part.shape)
    return int(x) - 1 + int(columns[0]), int(y) - 1 + int(rows[0])


def _overlap(regions: Regions, labels: Labels, numbers: Ints) -> Floats:
    """IoU of every region with the segments `numbers` of a label map, float64 (N, G)."""
    kinds = int(labels.max()) + 1
    count = len(regions.basin)
    pairs = regions.place.ravel().astype(np.int64) * kinds + labels.ravel()
    table = np.bincount(pairs, minlength=count * kinds).reshape(count, kinds)[:, numbers]
    # A region is a range of places, so its sums are differences of running sums.
    running = np.concatenate([np.zeros((1, len(numbers))), table.cumsum(0)])
    shared = running[regions.last] - running[regions.first]
    either = regions.area[:, None] + np.bincount(labels.ravel())[numbers] - shared
    overlap: Floats = shared / either
    return overlap
