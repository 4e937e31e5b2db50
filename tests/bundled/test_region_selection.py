"""Which regions answer a click, several points, or a box."""

from __future__ import annotations

import numpy as np
import pytest

from everything.bundled import region_selection
from everything.bundled.click_regions import Clicks
from everything.bundled.region_tree import Regions, partition, regions


@pytest.fixture
def nested() -> Regions:
    """Three boxes in one another in the left half, one box in the right half."""
    boundary = np.zeros((60, 120))
    for margin, wall in ((5, 0.8), (14, 0.5), (22, 0.3)):
        boundary[margin, margin : 60 - margin] = wall
        boundary[59 - margin, margin : 60 - margin] = wall
        boundary[margin : 60 - margin, margin] = wall
        boundary[margin : 60 - margin, 59 - margin] = wall
    boundary[15:45, [80, 110]] = 0.6
    boundary[[15, 44], 80:111] = 0.6
    return regions(partition(boundary))


def at(tree: Regions, x: int, y: int) -> int:
    return int(tree.at(np.array([x]), np.array([y]))[0])


def clicks(tree: Regions, *points: tuple[int, int]) -> Clicks:
    return Clicks.at(tree, np.array(points, np.int64).reshape(-1, 2))


def test_three_answers_are_nested_and_hold_the_click(nested: Regions) -> None:
    click = clicks(nested, (30, 30))
    chosen = region_selection.of_clicks(nested, click, np.zeros(click.nodes.shape), 3)[0][0]
    assert len(set(chosen.tolist())) == 3
    masks = [nested.mask(int(node)) for node in chosen]
    assert all(mask[30, 30] for mask in masks)
    assert (masks[0] <= masks[1]).all()
    assert (masks[1] <= masks[2]).all()


def test_one_answer_is_the_region_that_is_voted_for(nested: Regions) -> None:
    click = clicks(nested, (30, 30))
    for column, wanted in enumerate(click.nodes[0]):
        vote = np.full(click.nodes.shape, -8.0)
        vote[:, column] = 0
        assert region_selection.of_clicks(nested, click, vote, 1)[0].tolist() == [[wanted]]


def test_answers_do_not_depend_on_who_else_asks(nested: Regions) -> None:
    points = [(30, 30), (95, 30), (2, 2), (18, 30)]
    vote = np.random.default_rng(0).normal(size=len(nested))
    together = clicks(nested, *points)
    found, _ = region_selection.of_clicks(nested, together, vote[together.nodes], 3)
    for row, point in enumerate(points):
        alone = clicks(nested, point)
        assert (
            region_selection.of_clicks(nested, alone, vote[alone.nodes], 3)[0][0] == found[row]
        ).all()


def test_a_short_chain_repeats_its_last_pick() -> None:
    whole = regions(partition(np.zeros((4, 4))))
    two = clicks(whole, (0, 0), (3, 3))
    assert (
        region_selection.of_clicks(whole, two, np.zeros((2, 1)), 3)[0].tolist() == [[0, 0, 0]] * 2
    )
    assert region_selection.of_clicks(whole, clicks(whole), np.zeros((0, 1)), 3)[0].shape == (0, 3)


def test_points_inside_are_held_and_points_outside_are_not(nested: Regions) -> None:
    inside, between, far = at(nested, 30, 30), at(nested, 18, 30), at(nested, 95, 30)
    vote = np.zeros(len(nested))
    pair = region_selection.of_points(nested, vote, np.array([inside, between]), np.array([far]), 3)
    for node in pair:
        mask = nested.mask(int(node))
        assert mask[30, 30]
        assert mask[30, 18]
        assert not mask[30, 95]
    alone = region_selection.of_points(nested, vote, np.array([inside]), np.array([between]), 1)
    assert nested.mask(int(alone[0]))[30, 30]
    assert not nested.mask(int(alone[0]))[30, 18]


def test_a_contradiction_is_answered_as_well_as_it_can_be(nested: Regions) -> None:
    same = np.array([at(nested, 30, 30)])
    assert len(region_selection.of_points(nested, np.zeros(len(nested)), same, same, 3)) == 3


def test_only_points_outside_give_a_region_without_them(nested: Regions) -> None:
    none = np.zeros(0, np.int64)
    chosen = region_selection.of_points(
        nested, np.zeros(len(nested)), none, np.array([at(nested, 1, 1)]), 3
    )
    assert not any(nested.mask(int(node))[1, 1] for node in chosen)


def test_a_box_finds_the_region_that_fills_it(nested: Regions) -> None:
    chosen, fit = region_selection.of_box(nested, np.array([80.0, 15.0, 111.0, 45.0]), 1)
    mask = nested.mask(int(chosen[0]))
    assert mask[30, 95]
    assert not mask[30, 30]
    assert fit[0] > 0.85


def test_boxes_fit_by_their_iou(nested: Regions) -> None:
    root = len(nested) - 1
    assert region_selection.box_fit(nested, np.array([0.0, 0, 120, 60]))[root] == pytest.approx(1)
    assert region_selection.box_fit(nested, np.array([0.0, 0, 60, 60]))[root] == pytest.approx(0.5)
    assert region_selection.box_fit(nested, np.array([500.0, 500, 501, 501])).max() == 0
    assert (region_selection.box_fit(nested, np.array([5.0, 5, 5, 5])) == 0).all()


def test_more_answers_than_regions_repeat_the_last() -> None:
    whole = regions(partition(np.zeros((4, 4))))
    chosen, fit = region_selection.of_box(whole, np.array([0.0, 0, 4, 4]), 3)
    assert chosen.tolist() == [0, 0, 0]
    assert fit.tolist() == [1, 1, 1]


def test_overlap_is_the_mean_iou_with_what_is_meant(nested: Regions) -> None:
    click = clicks(nested, (30, 30), (95, 30))
    vote = np.random.default_rng(0).normal(size=click.nodes.shape) * 2
    found = region_selection.overlap(nested.area[click.nodes], click.new, vote)
    for row in range(2):
        chain = click.nodes[row][click.new[row]]
        masks = [nested.mask(int(node)) for node in chain]
        share = np.exp(vote[row][click.new[row]])
        share /= share.sum()
        for column, one in enumerate(masks):
            ious = [(one & other).sum() / (one | other).sum() for other in masks]
            assert found[row, column] == pytest.approx(float(share @ ious))


def test_what_is_expected_comes_with_each_pick(nested: Regions) -> None:
    click = clicks(nested, (30, 30), (2, 2))
    vote = np.random.default_rng(1).normal(size=click.nodes.shape)
    chosen, expected = region_selection.of_clicks(nested, click, vote, 3)
    every = region_selection.overlap(nested.area[click.nodes], click.new, vote)
    for row in range(2):
        for node, said in zip(chosen[row], expected[row], strict=True):
            assert said == every[row][click.nodes[row] == node][0]


def test_a_region_is_at_best_what_the_best_of_its_basins_says(nested: Regions) -> None:
    vote = np.random.default_rng(2).normal(size=len(nested))
    best = region_selection.at_best(nested, vote)
    ys, xs = np.indices(nested.place.shape)
    everywhere = clicks(nested, *zip(xs.ravel().tolist(), ys.ravel().tolist(), strict=True))
    said = region_selection.overlap(
        nested.area[everywhere.nodes], everywhere.new, vote[everywhere.nodes]
    )
    for node in range(len(nested)):
        assert best[node] == pytest.approx(said[(everywhere.nodes == node) & everywhere.new].max())
