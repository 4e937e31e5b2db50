"""Where in the regions around it a click lies."""

from __future__ import annotations

import numpy as np
import pytest

from everything.bundled.click_regions import RADII, Clicks
from everything.bundled.region_tree import partition, regions


def test_depth_is_the_distance_to_the_contour() -> None:
    boundary = np.zeros((60, 120))
    boundary[:, 60] = 1.0
    tree = regions(partition(boundary))
    points = np.array([[30, 30], [57, 30], [3, 30]])
    clicks = Clicks.at(tree, points)
    assert clicks.nodes.shape == (3, 2)
    depth = np.exp(clicks.place[:, 0, 0])
    # Found along rays at radii a third apart, so never too small and at most that much too large.
    for found, true in zip(depth, (30, 3, 4), strict=True):
        assert true * 0.9 <= found <= true * 1.4


def test_the_middle_is_near_the_centre() -> None:
    tree = regions(partition(np.zeros((40, 40))))
    middle, corner = Clicks.at(tree, np.array([[20, 20], [0, 0]])).place[:, 0]
    assert middle[2] < 0.05
    assert corner[2] == pytest.approx(np.hypot(19.5, 19.5) / 40)
    assert middle[1] > corner[1]


def test_every_region_around_a_click_is_deeper_than_those_inside_it() -> None:
    tree = regions(partition(np.random.default_rng(0).random((50, 50))))
    points = np.stack(np.meshgrid(np.arange(0, 50, 7), np.arange(0, 50, 7)), -1).reshape(-1, 2)
    clicks = Clicks.at(tree, points)
    assert (np.diff(clicks.place[..., 0], axis=1) > -1e-6).all()
    assert clicks.new[:, 0].all()
    assert (clicks.nodes[:, -1] == len(tree) - 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (900, 900)])
def test_any_canvas_has_finite_places(shape: tuple[int, int]) -> None:
    tree = regions(partition(np.zeros(shape)))
    point = np.array([[shape[1] // 2, shape[0] // 2]])
    place = Clicks.at(tree, point).place
    assert np.isfinite(place).all()
    assert np.exp(place[0, -1, 0]) <= RADII[-1] * 1.4
