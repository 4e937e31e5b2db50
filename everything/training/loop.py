"""The loop of every training on one image a step: budget, checkpoints, progress, resume."""

from __future__ import annotations

import copy
import io
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from everything.errors import ConfigError
from everything.io.datasets.label_maps import LabelledImage
from everything.training.optimizers import Optimisers, average
from everything.training.output_folder import STATE, WEIGHTS, write_files

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Budget:
    """When a training ends: after minutes of work or after steps, of one image each."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ConfigError("a training needs an end: give either --minutes or --steps")
        if (self.minutes or self.steps or 0) <= 0:
            raise ConfigError("a training of no length: give more --minutes or --steps than 0")

    def progress(self, seconds: float, steps: int) -> float:
        """Return the part of the budget that is spent."""
        if self.minutes is not None:
            return seconds / (60 * self.minutes)
        assert self.steps is not None
        return steps / self.steps


class Loop(ABC, Generic[Net]):
    """A training that can be stopped and continued at any step.

    Its state is the network, its running average (which is what ships), the optimisers, the
    random numbers and the time and steps spent. Raises ValueError if there are no images.
    """

    decay = 0.999  # of the running average

    def __init__(
        self,
        net: Net,
        optimisers: Mapping[str, Optimisers],
        truths: Sequence[LabelledImage],
        budget: Budget,
        seed: int,
    ) -> None:
        if not truths:
            raise ValueError("there are no photos to train on")
        self.random = torch.Generator().manual_seed(seed)
        self.truths, self.budget = truths, budget
        # An image that five people marked says more than one that was marked once.
        self.shares = torch.tensor([float(len(truth.labels)) for truth in truths])
        self.net, self.optimisers = net, optimisers
        self.mean = copy.deepcopy(net).eval()
        self.steps, self.seconds = 0, 0.0

    @abstractmethod
    def losses(self, truth: LabelledImage) -> dict[str, Tensor]:
        """Return the losses, scalars by name, of one random crop of an image."""

    def check(self) -> dict[str, float]:
        """Return losses, by name, of the running average on images that it does not learn from;
        nothing if there are none."""
        return {}

    @property
    def progress(self) -> float:
        """The part of the budget that is spent."""
        return self.budget.progress(self.seconds, self.steps)

    def step(self) -> dict[str, float]:
        """Train on one crop of one image; return the losses."""
        start = time.monotonic()
        chosen = int(torch.multinomial(self.shares, 1, generator=self.random))
        losses = self.losses(self.truths[chosen])
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        for optimisers in self.optimisers.values():
            optimisers.step(min(1.0, self.progress))
        self.steps += 1
        average(self.mean.parameters(), self.net.parameters(), self.steps, self.decay)
        self.seconds += time.monotonic() - start
        return {name: loss.item() for name, loss in losses.items()}

    def save(self, folder: Path) -> None:
        """Write weights.safetensors (the average, float32) and state.pt (all that continues)."""
        state = {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimisers": {n: o.state_dict() for n, o in self.optimisers.items()},
            "random": self.random.get_state(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        weights = {n: v.float().contiguous() for n, v in self.mean.state_dict().items()}
        saved = io.BytesIO()
        torch.save(state, saved)
        write_files(folder, {WEIGHTS: save(weights), STATE: saved.getvalue()})

    def resume(self, folder: Path) -> None:
        """Continue from what `save` wrote. Raises FileNotFoundError if it wrote nothing there."""
        state: dict[str, Any] = torch.load(folder / STATE, "cpu", weights_only=True)
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        for name, optimisers in self.optimisers.items():
            optimisers.load_state_dict(state["optimisers"][name])
        self.random.set_state(state["random"])
        self.steps, self.seconds = state["steps"], state["seconds"]


def run(
    training: Loop[Any],
    folder: Path,
    on_message: Callable[[str], None],
    save_every: float = 300.0,
    report_every: float = 30.0,
) -> None:
    """Train until the budget is spent; save and tell the mean losses every so many seconds, and
    at the end."""
    saved = said = time.monotonic()
    losses: list[dict[str, float]] = []
    while training.progress < 1:
        losses.append(training.step())
        now = time.monotonic()
        if now - said >= report_every or training.progress >= 1:
            on_message(_line(training, losses, now - said))
            said, losses = now, []
        if now - saved >= save_every:
            _save(training, folder, on_message)
            saved = now
    _save(training, folder, on_message)


def _save(training: Loop[Any], folder: Path, on_message: Callable[[str], None]) -> None:
    training.save(folder)
    if losses := training.check():
        on_message(f"images held out: {_printable(losses)}")


def _line(training: Loop[Any], losses: list[dict[str, float]], seconds: float) -> str:
    means = {name: sum(step[name] for step in losses) / len(losses) for name in losses[0]}
    rate = len(losses) / max(seconds, 1e-9)
    return (
        f"step {training.steps}, {min(1.0, training.progress):.1%}: {_printable(means)}, "
        f"{rate:.1f} steps/s"
    )


def _printable(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
