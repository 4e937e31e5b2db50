"""Wholes, parts and parts of parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everything import rle
from everything.nesting import INSIDE, levels_of, parents_of
from tests.labelled import disc

SIZE = (80, 100)


def codes(*masks: np.ndarray) -> list[rle.Rle]:
    return [rle.encode(mask, (0, 0), mask.shape) for mask in masks]


def test_a_face_with_an_eye_beside_a_ball():
    eye, face, ball, pupil = (
        disc(SIZE, centre, radius)
        for centre, radius in [((30, 30), 8), ((35, 40), 28), ((80, 40), 12), ((30, 30), 3)]
    )
    masks = codes(eye, face, ball, pupil)
    assert parents_of(masks) == [1, None, None, 0]
    assert levels_of(masks) == ["part", "whole", "whole", "subpart"]


def test_twins_are_no_parts_of_each_other():
    big, same, nearly = disc(SIZE, (50, 40), 30), disc(SIZE, (50, 40), 30), disc(SIZE, (50, 40), 29)
    assert parents_of(codes(big, same, nearly)) == [None, None, None]


def test_nine_tenths_inside_are_inside():
    whole = np.zeros(SIZE, bool)
    whole[:, :50] = True
    for outside, parent in ((1, 0), (2, None)):
        part = np.zeros(SIZE, bool)
        part[10, 40 + outside : 50 + outside] = True
        assert parents_of(codes(whole, part)) == [None, parent]


def test_nothing_and_masks_without_pixels():
    assert parents_of([]) == []
    empty = np.zeros(SIZE, bool)
    assert parents_of(codes(empty, ~empty, empty)) == [None, None, None]


@given(st.lists(st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 9)] * 2), max_size=12))
def test_by_the_definition(boxes: list[tuple[int, int, int, int]]):
    masks = np.zeros((len(boxes), 18, 18), bool)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = True
    found = parents_of(codes(*masks))
    for row, mask in enumerate(masks):
        larger = []
        for other, above in enumerate(masks):
            both, union = (mask & above).sum(), (mask | above).sum()
            wins = above.sum() > mask.sum() or (above.sum() == mask.sum() and other < row)
            if other != row and wins and both >= INSIDE * mask.sum() and both < INSIDE * union:
                larger.append(other)
        smallest = min((masks[other].sum() for other in larger), default=0)
        assert (found[row] is None) == (not larger)
        assert found[row] is None or masks[found[row]].sum() == smallest


def test_links_lead_up_and_end():
    generator = np.random.default_rng(0)
    masks = [disc(SIZE, generator.uniform(10, 70, 2), r) for r in generator.uniform(2, 40, 600)]
    parents = parents_of(codes(*masks))
    for row in range(len(masks)):
        seen = set()
        at: int | None = row
        while at is not None:
            assert at not in seen
            seen.add(at)
            at = parents[at]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257])
def test_blocks_do_not_show(count: int):
    whole, part = disc(SIZE, (50, 40), 30), disc(SIZE, (50, 40), 10)
    assert parents_of(codes(whole, *[part] * count)) == [None, *[0] * count]
