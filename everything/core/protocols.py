"""The protocols: what a variant must do, and what a sampler must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from everything.config import Compute
from everything.core.geometry import Frame, Size, View
from everything.core.prompts import Prompts

if TYPE_CHECKING:
    pass


class Candidates(Protocol):
    """Candidate masks whose scores are known before any of them is drawn.

    N rows, ordered by prompt, then by level. Of rows with equal `identity` one is drawn. What is
    known of them is on the processor, where it is decided which to draw; what draws is not.
    """

    @property
    def scores(self) -> Tensor:
        """Predicted IoU, float32 (N,)."""
        ...

    @property
    def prompt(self) -> Tensor:
        """Row of the prompt, int64 (N,)."""
        ...

    @property
    def level(self) -> Tensor:
        """Which of the prompt's answers, int64 (N,)."""
        ...

    @property
    def identity(self) -> Tensor:
        """Equal numbers for the same mask, int64 (N,)."""
        ...

    def draw(self, rows: Tensor) -> Tensor:
        """Return logits float32 (K, hl, wl) over the canvas of the rows int64 (K,), in order, where
        the model computes."""
        ...


class Model(Protocol):
    """A variant with its weights: it sees a view once and answers prompts about it."""

    def place(self, compute: Compute) -> None:
        """Go where the settings say, once, before anything else; raises ConfigError if that is
        not here or not for this variant."""
        ...

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the model's canvas."""
        ...

    def encode(self, view: View) -> Any:
        """Return what the model knows of a view; only its own `propose` can read it."""
        ...

    def features(self, embedding: Any) -> Tensor:
        """Return feature maps (1, C, h, w) over the canvas, for networks that grow on this one
        (samplers/auto_ppn.py)."""
        ...

    def propose(self, embedding: Any, prompts: Prompts, multimask_output: bool) -> Candidates:
        """Return the answers to prompts (P rows, px of the canvas that `frame` describes): three
        to each with multimask_output, one without."""
        ...
