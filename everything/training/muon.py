"""Muon in the precision that a device multiplies fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor

from everything.bundled.ucm import fast_bfloat16

# The best polynomials of degree five (Polar Express, Amsel et al., 2025), singular values from
# 0.001 up: three of them flatten singular values as well as five of Jordan's.
POLYNOMIALS = [
    (8.237312490495555, -23.157747414558198, 16.680568411445915),
    (4.082441999064835, -2.893047735332586, 0.5252849256975648),
    (3.9263479922546582, -2.8547468034765298, 0.5318022422894988),
]
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalised (Jordan et al., 2024).

    timm's and torch's classes multiply in bfloat16 everywhere, which takes most of a training on
    CPUs that do not do so themselves. Matrices of convolutions are flattened behind their first
    axis; rates are scaled to match AdamW's (Liu et al., 2025).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step with the gradients that are there, with Nesterov's momentum."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(mean, group["momentum"]).flatten(1)
        precision = torch.bfloat16 if fast_bfloat16(update.device) else torch.float32
        flat = zeropower_via_newtonschulz(
            update, len(POLYNOMIALS), POLYNOMIALS, eps=SMALLEST_NORM, dtype=precision
        )
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        scale = get_lr_scale(flat.shape, "match_rms_adamw")
        parameter.add_(flat.view_as(parameter), alpha=-group["lr"] * scale)
