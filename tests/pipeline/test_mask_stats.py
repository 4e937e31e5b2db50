from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from segment_anything.utils.amg import calculate_stability_score

from everything.core import mask_ops, rle
from everything.core.geometry import Frame, padded_frame, stretched_frame
from everything.core.rle import Rle
from everything.kernels import loader
from everything.kernels.loader import INSTRUCTIONS
from everything.pipeline.block_interpolation import BlockMask, Blocks
from everything.pipeline.device_masks import Place
from everything.pipeline.mask_stats import Arithmetic, Measured, measure


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


thresholds = st.one_of(st.just(0.0), st.floats(-6, 6, width=16))


def sam_stability(full: torch.Tensor, offset: float, threshold: float) -> torch.Tensor:
    """As segment_anything has it; NaN where there is nothing."""
    return calculate_stability_score(full, threshold, offset)


def logits_over(frame: Frame, seed: int) -> torch.Tensor:
    if frame.canvas == (64, 64):
        return smooth(8, 16, seed)
    logits = smooth(8, 16, seed)  # else at full resolution already
    return torch.nn.functional.interpolate(logits[None], frame.view)[0]


def drawn(code: Rle, size: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(rle.decode([code], size)[0])


def check(measured: Measured, full: torch.Tensor, offset: float, threshold: float = 0.0) -> None:
    """As `full` (N, h, w) has it, but for pixels that lie on a cut."""
    margin = 4e-6 * full.abs().amax((1, 2))
    in_doubt = [
        ((full - cut).abs().flatten(1) <= margin[:, None]).sum(1)
        for cut in (threshold - offset, threshold, threshold + offset)
    ]
    masks = full > threshold
    assert ((measured.areas - masks.flatten(1).sum(1)).abs() <= in_doubt[1]).all()
    sure = sum(in_doubt) == 0
    expected = sam_stability(full, offset, threshold).nan_to_num(7)
    assert torch.equal(measured.stability.nan_to_num(7)[sure], expected[sure])
    assert torch.equal(measured.boxes[sure], mask_ops.mask_to_box(masks).float()[sure])
    codes = measured.codes(range(len(full)))
    for code, mask, doubt in zip(codes, masks, in_doubt[1], strict=True):
        assert (drawn(code, tuple(mask.shape)) ^ mask).sum() <= doubt


@pytest.fixture(params=INSTRUCTIONS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    loader.kernels.take(request.param)
    yield request.param
    loader.kernels.take(INSTRUCTIONS[0])


@pytest.mark.usefixtures("instructions")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frames, st.integers(0, 2**31), st.floats(0, 2), thresholds)
def test_kernels_give_what_whole_masks_give(
    frame: Frame, seed: int, offset: float, threshold: float
):
    logits = logits_over(frame, seed)
    found = measure(logits, frame, offset, threshold=threshold)
    check(found, frame.to_view(logits), offset, threshold)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("size", [(700, 900), (897, 673), (16, 4000), (64, 64), (1, 1)])
def test_kernels_on_large_and_tiny_photos(size: tuple[int, int]):
    frame, logits = padded_frame(size, 64), smooth(24, 16, 0)
    check(measure(logits, frame, 0.7), frame.to_view(logits), 0.7)


@pytest.mark.usefixtures("instructions")
def test_kernels_measure_bicubic_frames_whole():
    frame, logits = stretched_frame((140, 50), 64, "bicubic"), smooth(8, 16, 3)
    check(measure(logits, frame, 1.0), frame.to_view(logits), 1.0)


@pytest.mark.parametrize("way", ["auto", "torch"])
def test_runs_that_reach_the_next_column_are_one(way: Arithmetic):
    """A full view of a full image is one run; in a larger image it is one run a column."""
    frame, full = Frame((6, 5), (6, 5), (0, 0, 5, 6)), torch.ones(1, 6, 5)
    measured = measure(full, frame, 0.5, way)
    assert measured.codes([0])[0] == rle.encode(np.ones((6, 5), bool), (0, 0), (6, 5))
    measured = measure(full, frame, 0.5, way, Place((2, 3), (9, 8)))
    expected = np.zeros((9, 8), bool)
    expected[3:9, 2:7] = True
    assert np.array_equal(rle.decode(measured.codes([0]), (9, 8))[0], expected)
    assert measured.boxes.tolist() == [[0, 0, 4, 5]]


@pytest.mark.parametrize("way", ["auto", "torch"])
def test_logits_that_are_not_numbers_are_no_mask(way: Arithmetic):
    frame = padded_frame((40, 30), 64)
    measured = measure(torch.full((1, 16, 16), float("nan")), frame, 1.0, way)
    assert measured.areas.tolist() == [0]
    assert measured.stability.isnan().all()


WAYS = {"regions": (2**40, 64), "blocks": (-1, 2**40)}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(frames, st.integers(0, 2**31), st.floats(0, 2), thresholds)
def test_parts_of_masks_give_what_whole_masks_give(
    way: str, frame: Frame, seed: int, offset: float, threshold: float
):
    logits = logits_over(frame, seed)
    with pytest.MonkeyPatch.context() as patch:
        large, paying = WAYS[way]
        patch.setattr("everything.pipeline.mask_stats.LARGE", large)
        patch.setattr("everything.pipeline.block_interpolation.MOST_CELLS", paying)
        measured = measure(logits, frame, offset, "torch", threshold=threshold)
        check(measured, frame.to_view(logits), offset, threshold)


@settings(max_examples=30, deadline=None)
@given(frames, st.integers(0, 2**31), st.floats(0, 2), thresholds)
def test_exactly_means_to_the_last_pixel(frame: Frame, seed: int, offset: float, threshold: float):
    logits = logits_over(frame, seed)
    full = frame.to_view(logits)
    masks = full > threshold
    measured = measure(logits, frame, offset, "exact", threshold=threshold)
    expected = sam_stability(full, offset, threshold)
    assert torch.equal(measured.stability.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(measured.areas, masks.flatten(1).sum(1))
    assert torch.equal(measured.boxes, mask_ops.mask_to_box(masks).float())
    for code, mask in zip(measured.codes(range(len(full))), masks, strict=True):
        assert torch.equal(drawn(code, frame.view), mask)


@pytest.mark.parametrize("size", [(700, 900), (897, 673), (16, 4000)])
def test_large_photos_are_looked_at_block_by_block(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    by_block, looked = [], BlockMask.outline
    monkeypatch.setattr(BlockMask, "outline", lambda self: by_block.append(self) or looked(self))
    frame, logits = padded_frame(size, 64), smooth(24, 16, 0)
    assert Blocks.of(frame, (16, 16)).is_faster
    measured = measure(logits, frame, 0.7, "torch")
    check(measured, frame.to_view(logits), 0.7)
    assert by_block or size == (16, 4000)


def test_bicubic_frames_are_measured_whole():
    frame, logits = stretched_frame((40, 50), 64, "bicubic"), smooth(8, 16, 3)
    full = frame.to_view(logits)
    measured = measure(logits, frame, 1.0, "torch")
    expected = sam_stability(full, 1.0, 0.0)
    assert torch.equal(measured.stability.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(measured.boxes, mask_ops.mask_to_box(full > 0).float())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_no_masks(mode: str):
    measured = measure(torch.zeros(0, 16, 16), stretched_frame((9, 9), 64, mode), 1.0)
    assert measured.boxes.shape == (0, 4)
    assert measured.codes([]) == []
