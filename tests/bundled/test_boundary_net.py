"""The boundary network: shapes, sizes, and what it was given beforehand."""

from __future__ import annotations

import pytest
import torch

from everything.bundled.boundary_net import AFFINITIES, BoundaryNet, ColourGradients


def test_it_stays_small() -> None:
    assert sum(p.numel() for p in BoundaryNet().parameters()) <= 3_000_000


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32), (32, 320)])
def test_any_multiple_of_32_is_answered(height: int, width: int) -> None:
    with torch.inference_mode():
        dense = BoundaryNet().eval()(torch.rand(1, 3, height, width))
    assert dense.boundary.shape == (1, 1, height // 2, width // 2)
    assert dense.affinity.shape == (1, AFFINITIES, height // 4, width // 4)
    assert dense.boundary.dtype == torch.float32


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        BoundaryNet()(torch.rand(1, 3, 33, 64))


def test_every_parameter_learns() -> None:
    net = BoundaryNet()
    dense = net(torch.rand(1, 3, 64, 64))
    (dense.boundary.square().mean() + dense.affinity.square().mean()).backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_gradients_answer_to_contrast_where_it_is() -> None:
    rgb = torch.full((1, 3, 64, 64), 0.4)
    rgb[..., 32:] = 0.6
    fine = ColourGradients()(rgb)[0, 0]
    assert fine.shape == (32, 32)
    assert int(fine[16].argmax()) in (15, 16)
    flat = ColourGradients()(torch.full((1, 3, 64, 64), 0.4))[0, :9]
    assert float((flat.amax() - flat.amin()).abs()) < 1e-4
