import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from segment_anything.utils.amg import remove_small_regions

from everything import rle
from everything.tidy import tidy, without_holes, without_islands
from tests.test_suppress import rows_kept, segments

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


@given(masks, st.integers(0, 30))
def test_clean_up_is_segment_anythings(mask: np.ndarray, area: int):
    filled, holes = remove_small_regions(mask, area, "holes")
    assert (without_holes(mask, area) == filled).all()
    assert (without_holes(mask, area) is not mask) == holes
    kept = without_islands(mask, area)
    expected, islands = remove_small_regions(mask, area, "islands")
    assert (kept is not mask) == islands
    # Of equally large islands either may be the one that stays.
    assert (kept == expected).all() or kept.sum() == expected.sum()


@given(masks.filter(lambda m: m.any()), st.integers(1, 30))
def test_looking_at_a_window_changes_nothing(mask: np.ndarray, area: int):
    image = np.pad(mask, ((0, 3), (2, 0)))
    clean = tidy(segments([image], [0.5]), area, 0.7, image.shape)
    expected = without_islands(without_holes(image, area), area)
    assert (rle.decode(clean.rles, image.shape)[0] == expected).all()


def test_tidy_fills_recodes_and_prefers_the_untouched():
    holed = np.ones((20, 20), bool)
    holed[4, 4] = False
    speckled = np.zeros((20, 20), bool)
    speckled[0, 0] = speckled[10:, 10:] = True
    found = segments([holed, np.ones((20, 20), bool), speckled], [0.9, 0.8, 0.7])
    clean = tidy(found, 5, 0.7, (20, 20))
    assert rows_kept(clean) == [1, 2]
    assert rle.decode([clean.rles[1]], (20, 20))[0].sum() == 100
    assert clean.boxes[1].tolist() == [10, 10, 19, 19]
    assert torch.equal(clean.scores, torch.tensor([0.8, 0.7]))


def test_tidy_of_nothing():
    found = segments([np.ones((3, 3), bool)], [0.5])[:0]
    assert len(tidy(found, 5, 0.7, (3, 3))) == 0
