"""Optimisers, schedule and running average of the embedded models' training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from everything.training.muon import Muon

MUON_RATE = 4e-3
ADAM_RATE = 2e-3
WARM_UP = 0.02  # of the training
FLOOR = 1e-3  # of the rate, at the end


class Optimisers:
    """Muon (Jordan et al., 2024) for the hidden matrices, AdamW for the rest, on one schedule.

    outside: parts of names of parameters that are matrices but not hidden ones. rate: what all
    rates are multiplied with, for parts that know something already. muon: False leaves it all to
    AdamW.
    """

    def __init__(
        self,
        net: nn.Module,
        outside: tuple[str, ...],
        rate: float = 1.0,
        muon: bool = True,
    ) -> None:
        self.rate = rate
        hidden: list[Tensor] = []
        rest: list[Tensor] = []
        for name, parameter in net.named_parameters():
            is_hidden = muon and _is_matrix(parameter) and not any(x in name for x in outside)
            (hidden if is_hidden else rest).append(parameter)
        self.parameters = hidden + rest
        adam = torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        self.parts: dict[str, tuple[Any, float]] = {"adam": (adam, ADAM_RATE)}
        if hidden:
            self.parts["muon"] = (Muon(hidden, MUON_RATE), MUON_RATE)

    def step(self, progress: float) -> None:
        """Take one step at the rate due after `progress` (0 to 1) of the training, and forget the
        gradients."""
        rate = min(1.0, progress / WARM_UP + FLOOR) * max(
            FLOOR, 0.5 + 0.5 * math.cos(math.pi * progress)
        )
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, full in self.parts.values():
            for group in optimiser.param_groups:
                group["lr"] = full * self.rate * rate
            optimiser.step()
            optimiser.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both, of tensors and numbers alone."""
        return {name: optimiser.state_dict() for name, (optimiser, _) in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name, (optimiser, _) in self.parts.items():
            optimiser.load_state_dict(state[name])


def _is_matrix(parameter: Tensor) -> bool:
    rows = parameter.shape[0] if parameter.ndim else 0
    return parameter.ndim >= 2 and min(rows, parameter.numel() // max(1, rows)) >= 16


@torch.no_grad()
def average(into: Iterable[Tensor], of: Iterable[Tensor], step: int, decay: float) -> None:
    """Move a running average towards the weights; the first steps count less (Polyak, 1992)."""
    keep = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(into, of, strict=True):
        mean.lerp_(value, 1 - keep)
