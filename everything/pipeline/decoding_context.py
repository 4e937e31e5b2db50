"""What decoding prompts in one view needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from everything.config import Recipe
from everything.core.geometry import Frame, View
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates, Model
from everything.core.stage_timer import StageTimer
from everything.pipeline.mask_stats import Arithmetic
from everything.pipeline.run_state import RunState


@dataclass(frozen=True)
class DecodingContext:
    """One view with its model, settings and the run's state.

    Attributes:
        model: The variant.
        embedding: The view's embedding.
        view: The view.
        frame: Where the view lies on the model's canvas.
        recipe: All settings.
        timer: Receives seconds by stage, and counts.
        state: The run's state.
        finite: Returns a network's output, or raises NotFinite.
    """

    model: Model
    embedding: Any
    view: View
    frame: Frame
    recipe: Recipe
    timer: StageTimer
    state: RunState
    finite: Callable[[Tensor], Tensor]

    @property
    def arithmetic(self) -> Arithmetic:
        """How masks are brought to full resolution."""
        return arithmetic_of(self.recipe)

    def propose(self, prompts: Prompts, multimask_output: bool) -> Candidates:
        """Return the candidate masks of prompts (P rows, view px)."""
        on_canvas = Prompts(self.frame.to_canvas(prompts.points), prompts.labels)
        return self.model.propose(self.embedding, on_canvas, multimask_output)

    def count(self, candidates: Candidates) -> None:
        """Add a decoder call and its candidates to the counts; raise NotFinite for their scores."""
        self.finite(candidates.scores)
        self.timer.counts["decoder_calls"] += 1
        self.timer.counts["candidates"] += len(candidates.scores)


def arithmetic_of(recipe: Recipe) -> Arithmetic:
    """Return how masks are brought to full resolution."""
    if recipe.decoding.decoder == "plain":
        return "exact"
    return "torch" if recipe.compute.kernels == "torch" else "auto"
