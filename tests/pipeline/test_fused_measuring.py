"""The Triton kernel measures what PyTorch's operations do; here in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from everything.core.geometry import Frame, Size, padded_frame, stretched_frame
from everything.core.mask_ops import Cuts
from everything.pipeline.device_masks import DeviceMasks, Place
from everything.pipeline.fused_measuring import serves

pytest.importorskip("triton", reason="torch's wheel for this system comes without Triton")
MEMORY = 2**30
CASES = [((40, 61), 0.0), ((70, 33), -0.4), ((32, 32), 0.9), ((1, 40), -0.4)]


def frames(size: Size) -> dict[str, Frame]:
    return {
        "padded": padded_frame(size, 64),
        "stretched": stretched_frame(size, 64),
        "bicubic": stretched_frame(size, 64, "bicubic"),
    }


@pytest.mark.parametrize("kind", ["padded", "stretched", "bicubic"])
@pytest.mark.parametrize(("size", "threshold"), CASES)
def test_it_measures_what_pytorch_does(size: Size, kind: str, threshold: float) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4, 16, 16, generator=generator)
    logits[1], logits[2] = -9.0, 9.0  # empty, and full
    frame, place = frames(size)[kind], Place((0, 0), size)
    expected, found = (
        DeviceMasks.of(logits, frame, Cuts.of(0.7, threshold), place, MEMORY, fused)
        for fused in (False, True)
    )
    for name in ("stability", "areas", "boxes"):
        one, other = getattr(expected, name), getattr(found, name)
        assert torch.equal(one.nan_to_num(7), other.nan_to_num(7)), name
        assert one.dtype == other.dtype
    assert torch.equal(expected.bits.bits, found.bits.bits)
    assert torch.equal(expected.bits.edges, found.bits.edges)
    assert expected.bits.codes() == found.bits.codes()


def test_no_masks() -> None:
    place = Place((0, 0), (40, 61))
    cuts = Cuts.of(1.0)
    found = DeviceMasks.of(torch.zeros(0, 16, 16), frames((40, 61))["padded"], cuts, place, 1, True)
    assert found.boxes.shape == (0, 4)
    assert found.bits.codes() == []


def test_it_serves_cuda_alone() -> None:
    assert not serves(torch.zeros(1, 16, 16))
