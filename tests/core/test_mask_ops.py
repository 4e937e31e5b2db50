import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils import amg

from everything.core import mask_ops


def toy(*rows: str) -> torch.Tensor:
    return torch.tensor([[c == "#" for c in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (toy("....", "....", "...."), [0, 0, 0, 0]),
        (toy("####", "####", "####"), [0, 0, 3, 2]),
        (toy("....", "..#.", "...."), [2, 1, 2, 1]),
        (toy("#...", "....", "...#"), [0, 0, 3, 2]),
        (toy("...#", "...#", "...."), [3, 0, 3, 1]),
    ],
)
def test_mask_to_box(mask: torch.Tensor, box: list[int]):
    assert mask_ops.mask_to_box(mask[None])[0].tolist() == box


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_boxes_and_stability_are_segment_anythings(n: int, h: int, w: int, seed: int):
    logits = torch.randn(n, h, w, generator=torch.manual_seed(seed)) * 2
    assert torch.equal(mask_ops.mask_to_box(logits > 0), amg.batched_mask_to_box(logits > 0))
    expected = amg.calculate_stability_score(logits, 0.0, 1.0)
    assert torch.equal(mask_ops.stability(logits, 1.0).nan_to_num(7), expected.nan_to_num(7))


def test_stability_of_nothing_is_nan():
    assert mask_ops.stability(torch.full((1, 2, 2), -5.0), 1.0).isnan().all()


def test_stability_counts_beyond_sixteen_bits():
    assert mask_ops.stability(torch.full((1, 1, 70_000), 5.0), 1.0).tolist() == [1.0]


@given(st.lists(st.tuples(*[st.integers(0, 199)] * 4), max_size=6))
def test_cut_off_is_segment_anythings(boxes: list[tuple[int, int, int, int]]):
    crop = (40, 0, 160, 100)
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    local = rows - torch.tensor([40.0, 0, 40, 0])
    expected = amg.is_box_near_crop_edge(local, list(crop), [0, 0, 200, 150])
    assert torch.equal(mask_ops.cut_off(rows, crop, (150, 200)), expected)


def test_nothing_is_cut_off_by_the_image_itself():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 199, 149]])
    assert not mask_ops.cut_off(boxes, (0, 0, 200, 150), (150, 200)).any()
