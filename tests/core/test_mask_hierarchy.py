"""Wholes, parts and parts of parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everything.core import rle
from everything.core.mask_hierarchy import INSIDE, levels_of, parents_of
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
    assert levels_of(masks, [0.9, 0.8, 0.7, 0.9]) == ["part", "whole", "whole", "subpart"]


def two_halves() -> list[rle.Rle]:
    """The photo, a thing of two halves, the halves, a dot on one of them."""
    thing, left, right = np.zeros((3, *SIZE), bool)
    thing[20:60, 20:80], left[20:60, 20:50], right[20:60, 50:80] = True, True, True
    return codes(np.ones(SIZE, bool), thing, left, right, disc(SIZE, (30, 30), 5))


def test_wholes_are_where_the_scores_are_best():
    masks = two_halves()
    assert parents_of(masks) == [None, 0, 1, 1, 2]
    assert levels_of(masks, [1, 0.8, 0.7, 0.9, 0.9]) == ["whole", "part", *["subpart"] * 3]
    masks = masks[1:]
    one = ["whole", "part", "part", "subpart"]
    assert levels_of(masks, [0.8, 0.7, 0.9, 0.9]) == one, "as good as both: 0.8"
    two = [None, "whole", "whole", "part"]
    assert levels_of(masks, [0.79, 0.7, 0.9, 0.9]) == two
    assert levels_of(masks, [0.1, 0.1, 0.1, 0.9]) == one, "a dot is not what its half is made of"


def test_a_photo_made_of_masks_is_no_object():
    half, other = np.zeros((2, *SIZE), bool)
    half[:, :60], other[:, 60:] = True, True
    photo = np.ones(SIZE, bool)
    for scores in ([1.0] * 3, [1.0, 0.1, 0.1]):
        assert levels_of(codes(photo, half, other), scores) == [None, "whole", "whole"]
    sky, bird = codes(photo, disc(SIZE, (30, 30), 5))
    assert levels_of([sky, bird], [0.5, 0.9]) == ["whole", "part"]
    assert levels_of([], []) == []
    empty = np.zeros(SIZE, bool)
    assert levels_of(codes(empty, empty), [1.0, 1.0]) == ["whole", "whole"]


@given(st.lists(st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 9)] * 2), max_size=12))
def test_every_mask_below_a_whole_has_a_level_and_wholes_are_in_none(
    boxes: list[tuple[int, int, int, int]],
):
    masks = np.zeros((len(boxes), 18, 18), bool)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = True
    found = codes(*masks)
    scores = [x / 8 for x, *_ in boxes]
    parents, levels = parents_of(found), levels_of(found, scores)
    for parent, level in zip(parents, levels, strict=True):
        above = None if parent is None else levels[parent]
        allowed = {None: ("whole", None), "whole": ("part",)}.get(above, ("subpart",))
        assert level in allowed
    for row, level in enumerate(levels):
        # What is more than a whole has wholes in it.
        assert level is not None or row in parents


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
