"""What a pipeline learns while it runs, and keeps from image to image."""

from __future__ import annotations

from dataclasses import dataclass, field

from everything.config import Recipe
from everything.core.out_of_memory import Lots
from everything.pipeline.adaptive_batch_size import AdaptiveBatchSize
from everything.pipeline.encoder_batching import EncoderQueue


@dataclass(frozen=True)
class RunState:
    """The state of a run. A pipeline made from another by `replace` shares it.

    Attributes:
        batch_size: Prompts per decoder batch that memory has allowed so far.
        encoder_queue: Views that are announced, and those that are encoded but not yet used.
        prompts: Prompts that an accelerator scores before any of their masks is drawn.
        masks: Masks that an accelerator draws and measures before the host looks at them.
    """

    batch_size: AdaptiveBatchSize
    encoder_queue: EncoderQueue
    prompts: Lots = field(default_factory=lambda: Lots("prompts are scored", 2**20))
    masks: Lots = field(default_factory=lambda: Lots("masks are drawn", 2**20))

    @staticmethod
    def of(recipe: Recipe) -> RunState:
        """Return the state at the start of a run."""
        return RunState(
            AdaptiveBatchSize(recipe.decoding.points_per_batch),
            EncoderQueue(recipe.compute.images_per_batch),
        )
