"""Muon: matrices take steps of one size in all their directions."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from everything.training.muon import Muon


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 8, 3, 3)])
def test_a_step_goes_nearly_as_far_in_all_directions(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(shape))
    u, _, vt = torch.linalg.svd(torch.randn(shape).flatten(1), full_matrices=False)
    strength = torch.logspace(0, -3, len(vt))  # of the gradient in each direction
    parameter.grad = (u * strength @ vt).view(shape)
    Muon([parameter], lr=1.0).step()
    step = -parameter.detach().flatten(1)
    far = (u.T @ step @ vt.T).diag() / (0.2 * max(step.shape) ** 0.5)
    assert float(far.min()) > 0.05, "downhill everywhere"
    assert 0.8 < float(far.max()) < 2


def test_timm_takes_the_same_step_in_its_own_precision() -> None:
    from timm.optim.muon import Muon as Timms

    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(24, 40, 3, 3))
    theirs = torch.nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    a = Muon([ours], lr=4e-3)
    b = Timms(
        [theirs], lr=4e-3, momentum=0.9, nesterov=True, ns_steps=3, ns_coefficients="polar_express"
    )
    for _ in range(3):
        ours.grad = torch.randn_like(ours)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    apart, gone = (ours - theirs).detach().norm(), (ours - start).detach().norm()
    assert float(apart / gone) < 0.03  # of bfloat16


def test_weights_decay_and_continue_from_a_state() -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.ones(16, 16))
    optimiser = Muon([parameter], lr=0.1, weight_decay=0.5)
    parameter.grad = torch.zeros(16, 16)
    optimiser.step()
    assert torch.allclose(parameter, torch.full((16, 16), 0.95))
    parameter.grad = torch.randn(16, 16)
    optimiser.step()
    other = torch.nn.Parameter(parameter.detach().clone())
    resumed = Muon([other], lr=0.1, weight_decay=0.5)
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    for one, theirs in ((parameter, optimiser), (other, resumed)):
        one.grad = torch.ones(16, 16)
        theirs.step()
    assert torch.equal(parameter, other)
