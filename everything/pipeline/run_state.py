"""What a pipeline learns while it runs, and keeps from image to image."""

from __future__ import annotations

from dataclasses import dataclass

from everything.config import Recipe
from everything.pipeline.adaptive_batch_size import AdaptiveBatchSize
from everything.pipeline.encoder_batching import EncoderQueue


@dataclass(frozen=True)
class RunState:
    """The state of a run. A pipeline made from another by `replace` shares it.

    Attributes:
        batch_size: Prompts per decoder batch that memory has allowed so far.
        encoder_queue: Views that are announced, and those that are encoded but not yet used.
    """

    batch_size: AdaptiveBatchSize
    encoder_queue: EncoderQueue

    @staticmethod
    def of(recipe: Recipe) -> RunState:
        """Return the state at the start of a run."""
        return RunState(
            AdaptiveBatchSize(recipe.decoding.points_per_batch),
            EncoderQueue(recipe.compute.images_per_batch),
        )
