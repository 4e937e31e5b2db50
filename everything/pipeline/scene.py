"""Scene: one view seen by one model, which is all that a sampler gets to see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from everything.config import Recipe
from everything.core.geometry import Frame, View
from everything.core.masks import Decoded, Masks
from everything.core.prompts import Prompts
from everything.core.protocols import Model
from everything.core.stage_timer import StageTimer
from everything.pipeline import filtering
from everything.pipeline.adaptive_batch_size import AdaptiveBatchSize
from everything.pipeline.encoder_batching import EncoderQueue
from everything.pipeline.mask_stats import Arithmetic


class NotFinite(ArithmeticError):
    """A network's answer is not a number, of which no threshold would let anything pass."""


class Scene:
    """A view, its embedding (computed when first asked for, once) and a decoder behind the gate."""

    def __init__(
        self,
        model: Model,
        view: View,
        recipe: Recipe,
        timer: StageTimer,
        batch_size: AdaptiveBatchSize | None = None,
        encoder_queue: EncoderQueue | None = None,
    ) -> None:
        self.model = model
        self.view = view
        self._recipe = recipe
        self._clock = timer
        self._batch_size = batch_size or AdaptiveBatchSize(recipe.decoding.points_per_batch)
        self._encoder_queue = encoder_queue or EncoderQueue(model, 1)

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self._recipe.variant

    def points_per_side(self, of_image: int) -> int:
        """Return how many points a side of this view gets where the whole image gets `of_image`:
        fewer at each crop layer, by crop_n_points_downscale_factor, but at least one."""
        factor: int = self._recipe.crops.crop_n_points_downscale_factor**self.view.depth
        return max(1, of_image // factor)

    @cached_property
    def embedding(self) -> Any:
        """What the model knows of the view."""
        return self._encoder_queue.embedding(self.view, self._clock)

    @cached_property
    def frame(self) -> Frame:
        """Where the view lies on the model's canvas."""
        return self.model.frame(self.view.size)

    def decode(self, prompts: Prompts, multimask_output: bool = True) -> Iterator[Masks]:
        """Yield the masks that prompts (P rows, view px) give and that pass the gate.

        Where memory runs out in the decoder, batches are halved and the batch is asked again.
        Raises NotFinite, as `finite`.
        """
        self._clock.counts["prompts"] += len(prompts)
        done, embedding = 0, self.embedding if len(prompts) else None
        while done < len(prompts):
            batch = prompts[done : done + self._batch_size.points_per_batch]
            try:
                with self._clock.stage("decode"):
                    on_canvas = Prompts(self.frame.to_canvas(batch.points), batch.labels)
                    candidates = self.model.propose(embedding, on_canvas, multimask_output)
            except Exception as error:
                if self._batch_size.survives(error):
                    continue
                raise
            self.finite(candidates.scores)
            done += len(batch)
            self._clock.counts["decoder_calls"] += 1
            self._clock.counts["candidates"] += len(candidates.scores)
            yield from filtering.gate(
                candidates,
                batch,
                self.frame,
                self.view,
                self._recipe.filters,
                self._clock,
                self._arithmetic,
            )

    def accept(self, decoded: Decoded) -> Masks:
        """Return the masks, found without the model, that pass the gate (all-instance samplers)."""
        self._clock.counts["candidates"] += len(decoded)
        if self._recipe.filters.pred_iou_thresh > 0:
            decoded = decoded[decoded.scores > self._recipe.filters.pred_iou_thresh]
        with self._clock.stage("select"):
            return filtering.accept(decoded, self.view, self._recipe.filters, self._arithmetic)

    def finite(self, answer: Tensor) -> Tensor:
        """Return a network's answer; raises NotFinite, with the way out, if some of it is not a
        finite number."""
        if bool(answer.isfinite().all()):
            return answer
        precision = self._recipe.compute.precision
        way = {
            "fp16": "fp16 does not hold its values: use --precision fp32 or bf16",
            "bf16": "bf16 does not hold its values: use --precision fp32",
        }.get(precision, "are its weights whole?")
        raise NotFinite(f"{self.variant} answered with what is no finite number: {way}")

    @property
    def _arithmetic(self) -> Arithmetic:
        if self._recipe.decoding.decoder == "plain":
            return "exact"
        return "torch" if self._recipe.compute.kernels == "torch" else "auto"


class Sampler(Protocol):
    """Decides where to prompt. It yields masks as they are found, so that memory stays flat."""

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of one view."""
        ...
