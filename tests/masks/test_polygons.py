"""Polygons along pixel edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco
from scipy import ndimage

from everything.masks.polygons import Part, doubled_area, parts_of
from tests.labelled import disc

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def painted(parts: list[Part], shape: tuple[int, int]) -> np.ndarray:
    """Pixels by how many rings go around their centres: another way than the one tested."""
    image = np.zeros(shape, int)
    for part in parts:
        for ring in (part.shell, *part.holes):
            code = coco.frPyObjects([ring.ravel().astype(float).tolist()], *shape)
            image += coco.decode(code)[..., 0].astype(int) * (1 if ring is part.shell else -1)
    return image


@given(masks)
def test_rings_enclose_exactly_the_mask(mask: np.ndarray):
    parts = parts_of(mask)
    assert (painted(parts, mask.shape) == mask).all()
    assert len(parts) == ndimage.label(mask)[1]


@given(masks)
def test_rings_are_simple_turn_as_they_should_and_have_the_areas(mask: np.ndarray):
    total = 0.0
    for part in parts_of(mask):
        for ring in (part.shell, *part.holes):
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)
            steps = np.roll(ring, -1, 0) - ring
            assert ((steps != 0).sum(1) == 1).all()
            area = doubled_area(ring) / 2
            assert (area > 0) == (ring is part.shell)
            total += area
    assert total == mask.sum()


@given(st.integers(1, 4), st.integers(1, 4))
def test_one_rectangle_has_four_corners(width: int, height: int):
    ((shell, holes),) = parts_of(np.ones((height, width), bool))
    corners = {(0, 0), (width, 0), (width, height), (0, height)}
    assert {tuple(corner) for corner in shell.tolist()} == corners
    assert not holes


def test_pixels_that_touch_at_a_corner_are_two_parts_either_way():
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        assert [len(part.shell) for part in parts_of(mask)] == [4, 4]


def test_a_chain_that_closes_at_a_corner_has_a_hole():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = mask[0, 2] = False
    ((shell, holes),) = parts_of(mask)
    assert (len(shell), [len(hole) for hole in holes]) == (6, [4])


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (4, 5)])
def test_nothing(shape: tuple[int, int]):
    assert parts_of(np.zeros(shape, bool)) == []


def test_rings_within_rings():
    size, centre = (60, 60), (30, 30)
    mask = np.zeros(size, bool)
    for radius in (28, 22, 16, 10, 5):
        mask ^= disc(size, centre, radius)
    parts = parts_of(mask)
    assert [len(part.holes) for part in parts] == [1, 1, 0]
    assert (painted(parts, size) == mask).all()
