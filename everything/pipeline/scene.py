"""Scene: one view and one model, all that a sampler works with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from everything.config import Recipe
from everything.core.geometry import Frame, View
from everything.core.prompts import Prompts
from everything.core.protocols import Model, in_bulk
from everything.core.stage_timer import StageTimer
from everything.masks.masks import Decoded, Masks
from everything.pipeline import filtering
from everything.pipeline.cpu_decoding import stream
from everything.pipeline.decoding_context import DecodingContext, arithmetic_of
from everything.pipeline.gpu_decoding import decode_in_bulk
from everything.pipeline.run_state import RunState


class NotFinite(ArithmeticError):
    """A network produced NaN or inf, which no threshold would let pass."""


class Scene:
    """A view of an image, with the model that decodes prompts in it and the filters for masks.

    Args:
        model: The variant.
        view: The whole image, a crop or a tile.
        recipe: All settings.
        timer: Receives seconds by stage, and counts.
        state: The run's state; new if it is not given.
    """

    def __init__(
        self,
        model: Model,
        view: View,
        recipe: Recipe,
        timer: StageTimer,
        state: RunState | None = None,
    ) -> None:
        self.model = model
        self.view = view
        self._recipe = recipe
        self._timer = timer
        self._state = state or RunState.of(recipe)

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self._recipe.variant

    @property
    def device(self) -> str:
        """The device of the variant's network, as the settings name it."""
        return self._recipe.compute.device

    def points_per_side(self, of_image: int) -> int:
        """Return the points along each side of this view, at least one.

        of_image: points along each side of the whole image; each crop layer divides it by
        crop_n_points_downscale_factor.
        """
        factor: int = self._recipe.crops.crop_n_points_downscale_factor**self.view.depth
        return max(1, of_image // factor)

    @cached_property
    def embedding(self) -> Any:
        """The view's image embedding, computed once, when it is first used."""
        return self._state.encoder_queue.embedding(self.model, self.view, self._timer)

    @cached_property
    def frame(self) -> Frame:
        """Where the view lies on the model's input."""
        return self.model.frame(self.view.size)

    def decode(self, prompts: Prompts, multimask_output: bool = True) -> Iterator[Masks]:
        """Decode prompts and yield the masks that pass the filters.

        On a CPU they come batch by batch, on an accelerator few times and many. Where memory runs
        out in the decoder, batches are halved and repeated.

        Args:
            prompts: P rows, px of the view.
            multimask_output: Three masks per prompt, or one.

        Raises:
            NotFinite: As `finite`.
        """
        self._timer.counts["prompts"] += len(prompts)
        if not len(prompts):
            return
        context = DecodingContext(
            self.model,
            self.embedding,
            self.view,
            self.frame,
            self._recipe,
            self._timer,
            self._state,
            self.finite,
        )
        # The seam between CPUs, which stream, and accelerators.
        decode = decode_in_bulk if in_bulk(self.model) else stream
        yield from decode(context, prompts, multimask_output)

    def accept(self, decoded: Decoded) -> Masks:
        """Return those of masks found without the model (all-instance) that pass the filters."""
        self._timer.counts["candidates"] += len(decoded)
        if self._recipe.filters.pred_iou_thresh > 0:
            decoded = decoded[decoded.scores > self._recipe.filters.pred_iou_thresh]
        arithmetic = arithmetic_of(self._recipe)
        with self._timer.stage("select"):
            return filtering.accept(decoded, self.view, self._recipe.filters, arithmetic)

    def finite(self, answer: Tensor) -> Tensor:
        """Return a network's output; raises NotFinite, with the way out, if it has NaN or inf."""
        if bool(answer.isfinite().all()):
            return answer
        precision = self._recipe.compute.precision
        way = {
            "fp16": "its values overflow in fp16: use --precision fp32 or bf16",
            "bf16": "its values overflow in bf16: use --precision fp32",
        }.get(precision, "are its weights damaged?")
        raise NotFinite(f"{self.variant} produced NaN or inf: {way}")


class Sampler(Protocol):
    """Decides where to prompt. It yields masks batch by batch, so that memory stays flat."""

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of one view."""
        ...


def prepare(sampler: Sampler, variant: str) -> None:
    """Load what a sampler needs for a variant besides its settings, such as a detector.

    A sampler that needs nothing has no method `prepare`. Raises what that method raises:
    WeightsError for a file that is missing or cannot be read.
    """
    method = getattr(sampler, "prepare", None)
    if method is not None:
        method(variant)
