"""What the boundary network is taught."""

from __future__ import annotations

import pytest
import torch

from everything.bundled.boundary_net import DIRECTIONS, DISTANCES, Dense
from everything.training.boundary_targets import (
    BESIDE,
    affinity_target,
    boundary_target,
    dense_loss,
)


def halves(width: int = 12, at: int = 6) -> torch.Tensor:
    labels = torch.ones(1, 8, width, dtype=torch.int64)
    labels[..., at:] = 2
    return labels


def test_both_sides_of_a_change_are_boundary() -> None:
    target, known = boundary_target(halves())
    row = [0, 0, 0, 0, BESIDE, 1, 1, BESIDE, 0, 0, 0, 0]
    assert target[4].tolist() == pytest.approx(row)
    assert (known == 1).all()


def test_annotators_are_averaged() -> None:
    one = torch.ones(1, 8, 12, dtype=torch.int64)
    target, _ = boundary_target(torch.cat([halves(), one]))
    assert float(target[4, 5]) == pytest.approx(0.5)


def test_the_unknown_is_neither_boundary_nor_counted() -> None:
    labels = halves()
    labels[..., 6:] = 0
    target, known = boundary_target(labels)
    assert (target == 0).all()
    assert known[0].tolist() == [1] * 6 + [0] * 6


def test_affinity_asks_the_neighbour_in_its_direction() -> None:
    target, known = affinity_target(halves())
    right = DISTANCES.index(2) * len(DIRECTIONS) + DIRECTIONS.index((0, 1))
    down = DISTANCES.index(2) * len(DIRECTIONS) + DIRECTIONS.index((1, 0))
    assert target[right, 0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0]
    assert known[right, 0].tolist() == [1] * 10 + [0, 0]
    assert (target[down, :6] == 1).all()
    assert (known[down, 6:] == 0).all()


def test_distances_beyond_the_map_are_unknown() -> None:
    _, known = affinity_target(torch.ones(1, 3, 3, dtype=torch.int64))
    assert (known[4 * DISTANCES.index(4) :] == 0).all()


def test_the_right_answer_costs_least() -> None:
    labels = halves(32, 16).repeat(1, 4, 1)
    target, _ = boundary_target(labels)
    same, _ = affinity_target(labels[:, ::2, ::2])
    right = Dense((target * 12 - 6)[None, None], (same * 12 - 6)[None])
    wrong = Dense((6 - target * 12)[None, None], (6 - same * 12)[None])
    for good, bad in zip(dense_loss(right, labels), dense_loss(wrong, labels), strict=True):
        assert good < bad


def test_nothing_known_costs_nothing() -> None:
    dense = Dense(torch.randn(1, 1, 32, 32), torch.randn(1, 24, 16, 16))
    assert [float(x) for x in dense_loss(dense, torch.zeros(2, 32, 32).long())] == [0, 0]
