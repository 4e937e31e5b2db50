"""One outline for masks with holes and parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from everything.export.keyhole_polygons import filled, outline_of
from tests.labelled import disc

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


@given(masks)
def test_all_of_the_mask_is_there_and_more_only_under_bridges_between_parts(mask: np.ndarray):
    if not mask.any():
        return
    outline = outline_of(mask)
    again = filled(outline, mask.shape)
    assert again[mask].all()
    assert len(outline) >= 3
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count == 1:
        assert (again == mask).all()
        return
    gaps = [ndimage.distance_transform_cdt(parts != n + 1, "chessboard") for n in range(count)]
    nearest = [min(gap[parts == m + 1].min() for m in range(count) if m != n)
               for n, gap in enumerate(gaps)]  # fmt: skip
    assert (again & ~mask).sum() <= sum(nearest) * 2


def test_four_parts_with_a_hole_lose_next_to_nothing():
    size = (200, 300)
    mask = np.zeros(size, bool)
    for centre in [(50, 50), (240, 60), (60, 150), (250, 150)]:
        mask |= disc(size, centre, 30)
    mask &= ~disc(size, (50, 50), 12)
    again = filled(outline_of(mask), size)
    iou = (again & mask).sum() / (again | mask).sum()
    largest = disc(size, (50, 50), 30).sum() / mask.sum()
    assert iou > 0.95 > largest


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_fewer_corners_within_the_tolerance(tolerance: float):
    size = (120, 120)
    mask = disc(size, (60, 60), 50) & ~disc(size, (60, 60), 20)
    exact, thin = outline_of(mask), outline_of(mask, tolerance)
    assert len(thin) < len(exact)
    wrong = filled(thin, size) ^ mask
    border = mask ^ ndimage.binary_erosion(mask, iterations=int(np.ceil(tolerance)) + 1)
    border |= ndimage.binary_dilation(mask, iterations=int(np.ceil(tolerance)) + 1) ^ mask
    assert not (wrong & ~border).any()
