import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everything import ops
from everything.measure import measure
from everything.view import Frame, padded_frame, stretched_frame


def smooth(n: int, low: int, seed: int) -> torch.Tensor:
    """Blobs of all sizes, some of them empty or full."""
    generator = torch.manual_seed(seed)
    coarse = torch.randn(n, 5, 5, generator=generator) * 4 + torch.linspace(-9, 9, n)[:, None, None]
    return torch.nn.functional.interpolate(coarse[None], (low, low), mode="bilinear")[0]


frames = st.one_of(
    st.builds(lambda h, w: padded_frame((h, w), 64), st.integers(1, 150), st.integers(1, 150)),
    st.builds(lambda h, w: stretched_frame((h, w), 64), st.integers(1, 150), st.integers(1, 150)),
    st.builds(lambda h, w: Frame((h, w), (64, 64), (5, 9, 60, 50)), *[st.integers(1, 90)] * 2),
    st.builds(lambda h, w: Frame((h, w), (h, w), (0, 0, w, h)), *[st.integers(1, 90)] * 2),
)


@settings(max_examples=60, deadline=None)
@given(frames, st.integers(0, 2**31), st.floats(0, 2))
def test_regions_of_interest_give_what_whole_masks_give(frame: Frame, seed: int, offset: float):
    low = 16 if frame.canvas == (64, 64) else None
    logits = smooth(8, low or 16, seed)
    if low is None:  # logits at full resolution already
        logits = torch.nn.functional.interpolate(logits[None], frame.view)[0]
    measured = measure(logits, frame, offset)
    full = frame.to_view(logits)
    expected = ops.stability(full, offset)
    assert torch.equal(measured.stability.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(measured.areas, (full > 0).flatten(1).sum(1))
    assert torch.equal(measured.boxes, ops.mask_to_box(full > 0).float())
    for patch, mask in zip(measured.patches, full > 0, strict=True):
        canvas = torch.zeros(frame.view, dtype=torch.bool)
        (x, y), (h, w) = patch.origin, patch.pixels.shape
        canvas[y : y + h, x : x + w] = torch.from_numpy(patch.pixels)
        assert torch.equal(canvas, mask)


def test_bicubic_frames_are_measured_whole():
    frame, logits = stretched_frame((40, 50), 64, "bicubic"), smooth(8, 16, 3)
    full = frame.to_view(logits)
    measured = measure(logits, frame, 1.0)
    expected = ops.stability(full, 1.0)
    assert torch.equal(measured.stability.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(measured.boxes, ops.mask_to_box(full > 0).float())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_no_masks(mode: str):
    measured = measure(torch.zeros(0, 16, 16), stretched_frame((9, 9), 64, mode), 1.0)
    assert measured.boxes.shape == (0, 4)
    assert measured.patches == []
