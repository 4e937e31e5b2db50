"""Region trees on maps small enough to draw by hand, and on hostile ones."""

from __future__ import annotations

import numpy as np
import pytest

from everything.bundled import region_tree as module
from everything.bundled.region_features import FEATURES, describe
from everything.bundled.region_tree import Regions, partition, regions


@pytest.fixture(autouse=True)
def _small_basins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASIN_AREA", 2)


def grown(boundary: np.ndarray) -> Regions:
    return regions(partition(boundary))


def four_rooms() -> np.ndarray:
    """A strong wall between left and right, weak ones between upper and lower rooms."""
    boundary = np.zeros((21, 31))
    boundary[10, :15] = 0.2
    boundary[10, 15:] = 0.3
    boundary[:, 15] = 0.9
    return boundary


def test_four_rooms_make_a_tree_of_seven() -> None:
    tree = grown(four_rooms())
    assert len(tree) == 7
    assert len(tree.basin) == 4
    upper_left = int(tree.at(np.array([3]), np.array([3]))[0])
    chain = tree.chain(upper_left)
    assert len(chain) == 3
    left = tree.mask(int(chain[1]))
    assert left[:, :15].all()
    assert not left[:, 16:].any()
    assert tree.mask(int(chain[2])).all()
    assert (np.diff(tree.altitude[chain]) > 0).all()


def test_every_region_is_its_range_box_and_area() -> None:
    random = np.random.default_rng(0)
    tree = grown(random.random((40, 33)))
    assert len(tree) > 20
    for node in range(len(tree)):
        mask = tree.mask(node)
        ys, xs = np.nonzero(mask)
        assert mask.sum() == tree.area[node]
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert tree.boxes[node].tolist() == box


def test_children_divide_their_parent() -> None:
    tree = grown(np.random.default_rng(1).random((30, 30)))
    for parent in range(len(tree.basin), len(tree)):
        children = [n for n in np.flatnonzero(tree.parents == parent) if n != parent]
        assert len(children) == 2
        a, b = (tree.mask(int(child)) for child in children)
        assert not (a & b).any()
        assert ((a | b) == tree.mask(parent)).all()


def test_tiny_basins_join_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    boundary = four_rooms()
    boundary[3:7, 3:7] = 0.5
    boundary[4:6, 4:6] = 0.0  # a basin that is tiny
    assert len(grown(boundary).basin) == 5
    monkeypatch.setattr(module, "BASIN_AREA", 20)
    assert len(grown(boundary).basin) == 4


def test_slices_of_one_valley_are_one_basin() -> None:
    boundary = np.zeros((9, 40))
    boundary[:, 20] = module.BASIN_DEPTH / 4
    assert len(grown(boundary)) == 1
    boundary[:, 20] = module.BASIN_DEPTH * 8
    assert len(grown(boundary)) == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 60), (60, 1), (2, 2), (37, 53)])
@pytest.mark.parametrize("kind", ["flat", "noise", "ones"])
def test_any_map_has_regions_and_finite_features(shape: tuple[int, int], kind: str) -> None:
    noise = np.random.default_rng(2).random(shape)
    boundary = {"flat": np.zeros(shape), "noise": noise, "ones": np.ones(shape)}[kind]
    part = partition(boundary)
    tree = regions(part)
    assert tree.area[-1] == boundary.size
    assert tree.parents[-1] == len(tree) - 1
    features = describe(part, tree, boundary, np.zeros((*shape, 3)))
    assert features.shape == (len(tree), len(FEATURES))
    assert np.isfinite(features).all()


def test_features_say_what_their_names_say() -> None:
    boundary = four_rooms()
    part = partition(boundary)
    tree = regions(part)
    colours = np.zeros((*boundary.shape, 3))
    colours[:, 16:] = 1.0
    features = describe(part, tree, boundary, colours)
    of = {name: features[:, i] for i, name in enumerate(FEATURES)}
    upper_left = int(tree.at(np.array([3]), np.array([3]))[0])
    left = int(tree.parents[upper_left])
    # Between a pixel in a wall and one beside it the boundary is half the wall's; where the walls
    # cross, the strong one's own pixels are divided too.
    altitude = (15 * 0.1 + 0.9) / 16
    assert of["altitude: boundary at which its halves met"][left] == pytest.approx(altitude)
    assert of["mean boundary on the contour"][left] == pytest.approx(0.45, abs=0.02)
    assert of["mean boundary on inner borders"][left] == pytest.approx(altitude)
    assert of["contrast of colour to the sibling"][left] > 1.5
    assert of["contrast of colour to the sibling"][upper_left] < 0.5
    assert of["log share of the photo"][-1] == 0
    assert of["share of the box"][upper_left] == pytest.approx(1, abs=0.1)
    assert of["share of the photo's edge in the perimeter"][-1] == pytest.approx(1)
