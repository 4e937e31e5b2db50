"""Regions as logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from everything.bundled.region_masks import CERTAIN, FAR, SLOPE, draw
from everything.bundled.region_tree import partition, regions
from everything.core import mask_ops
from everything.kernels import loader


def test_the_mask_is_the_region_to_the_pixel() -> None:
    tree = regions(partition(np.random.default_rng(0).random((50, 40))))
    nodes = list(range(len(tree)))
    logits = draw(tree, nodes)
    assert logits.shape == (len(tree), 50, 40)
    assert logits.dtype == torch.float32
    for node in nodes:
        assert ((logits[node] > 0).numpy() == tree.mask(node)).all()


def test_logits_grow_by_slope_with_the_distance() -> None:
    boundary = np.zeros((20, 40))
    boundary[:, 20] = 1.0
    tree = regions(partition(boundary))
    left = int(tree.at(np.array([0]), np.array([0]))[0])
    row = draw(tree, [left])[0, 10].numpy()
    edge = int((row > 0).sum())
    steps = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5]) * SLOPE
    assert row[edge - 3 : edge + 4].tolist() == steps[::-1].tolist()
    assert (row[: edge - 3] == FAR + CERTAIN).all()
    assert (row[edge + 4 :] == -FAR).all()


def test_the_photos_edge_is_no_contour() -> None:
    tree = regions(partition(np.zeros((7, 9))))
    assert (draw(tree, [0]) == FAR + CERTAIN).all()


def test_a_region_that_nothing_divides_is_certain() -> None:
    boundary = np.zeros((20, 40))
    boundary[:, 10], boundary[:, 25] = 0.2, 0.7
    tree = regions(partition(boundary))
    assert tree.altitude.max() == pytest.approx(0.35)  # a contour 1 px wide, between pairs of px
    height = draw(tree, list(range(len(tree)))).amax((1, 2)).numpy()
    assert height == pytest.approx(FAR + CERTAIN * (1 - tree.altitude))


def test_regions_are_stable_at_sams_offset() -> None:
    tree = regions(partition(np.random.default_rng(1).random((40, 40))))
    logits = draw(tree, list(range(len(tree))))
    assert (mask_ops.stability(logits, 1.0) == 1).all()


def test_kernels_draw_the_same() -> None:
    assert loader.kernels is not None
    boundary = np.random.default_rng(2).random((37, 61)) ** 4
    tree = regions(partition(boundary))
    nodes = list(range(len(tree)))
    drawn = draw(tree, nodes)
    with loader.without_kernels():
        assert torch.equal(draw(tree, nodes), drawn)


def test_kernels_refuse_what_is_not_on_the_canvas() -> None:
    place, certain = np.zeros((4, 5), np.int32), np.zeros(1, np.float32)
    logits = np.zeros((1, 4, 5), np.float32)
    for box in ([0, 0, 6, 4], [-1, 0, 5, 4], [0, 0, 5, 5], [3, 0, 3, 4], [0, 2, 5, 1]):
        each = np.array([[0, 1, *box]])
        with pytest.raises(ValueError, match="within the canvas"):
            loader.kernels.regions(1, (4, 5), 3, 3.0, 10.5, [place, each, certain, logits])


def test_no_regions_make_no_logits() -> None:
    assert draw(regions(partition(np.zeros((3, 5)))), []).shape == (0, 3, 5)
