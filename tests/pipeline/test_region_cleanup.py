import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from segment_anything.utils.amg import remove_small_regions

from everything.core import mask_ops, rle
from everything.pipeline.region_cleanup import tidy, without_holes, without_islands
from tests.pipeline.test_nms import rows_kept, segments

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def runs_of(mask: np.ndarray) -> np.ndarray:
    return rle.runs(rle.encode(mask, (0, 0), mask.shape))


def mask_of(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return rle.decode([rle.encode_edges(runs.reshape(-1), size)], size)[0]


@settings(max_examples=300)
@given(masks, st.integers(0, 60))
def test_clean_up_is_segment_anythings(mask: np.ndarray, area: int):
    size, runs = mask.shape, runs_of(mask)
    filled, holes = remove_small_regions(mask, area, "holes")
    assert (mask_of(without_holes(runs, area, size), size) == filled).all()
    assert (without_holes(runs, area, size) is not runs) == holes
    kept = without_islands(runs, area, size)
    expected, islands = remove_small_regions(mask, area, "islands")
    assert (kept is not runs) == islands
    # Of equally large islands either may be the one that stays.
    found = mask_of(kept, size)
    assert (found == expected).all() or found.sum() == expected.sum()


@given(masks.filter(lambda m: m.any()), st.integers(1, 30))
def test_what_is_cleaned_has_its_box(mask: np.ndarray, area: int):
    found = segments([mask], [0.5])
    clean = tidy(found, area, 0.7, mask.shape)
    after = rle.decode(clean.rles, mask.shape)
    assert (clean.boxes == mask_ops.mask_to_box(torch.from_numpy(after))).all()
    assert (clean.rles == found.rles) == (mask == after[0]).all()


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
