"""Pairs of masks by their agreement."""

import numpy as np

from everything.core.matching import one_to_one


def test_the_best_pairs_first_and_each_once():
    agreement = np.array([[0.9, 0.6, 0.0], [0.8, 0.7, 0.2], [0.5, 0.65, 0.4]])
    assert one_to_one(agreement, 0.5) == [(0, 0), (1, 1)]
    assert one_to_one(agreement, 0.4) == [(0, 0), (1, 1), (2, 2)]
    assert one_to_one(agreement, 0.91) == []


def test_equals_go_to_the_first_and_nothing_has_no_pairs():
    assert one_to_one(np.full((2, 3), 0.5), 0.5) == [(0, 0), (1, 1)]
    assert one_to_one(np.zeros((0, 3)), 0.0) == []
