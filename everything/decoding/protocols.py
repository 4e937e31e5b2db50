"""The protocols of every decoder, plain or shared-image."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from everything.core.protocols import Candidates
from everything.decoding.image_side import Cells


class PreparedImage(Protocol):
    """An image ready for prompts."""

    @property
    def embedding(self) -> Tensor:
        """The image encoder's embedding, (1, C, h, w) over the canvas."""
        ...

    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> Candidates:
        """Return the candidate masks of P prompts.

        Args:
            points: float32 (P, K, 2) xy, px of the prompt encoder's canvas.
            labels: int64 (P, K).
            multimask_output: Several candidates for each prompt instead of one.
            masks: None, or logits float32 (P, 1, 4 h, 4 w).
        """
        ...


class Decoder(Protocol):
    """A mask decoder that prepares an image once for any number of prompts."""

    @property
    def in_bulk(self) -> bool:
        """Whether an image takes any number of prompts and masks, in lots of its own."""
        ...

    def prepare(self, embedding: Tensor, content: Cells | None = None) -> PreparedImage:
        """Prepare an image for prompts.

        Args:
            embedding: (1, C, h, w).
            content: Rows and columns of the embedding, from the top left, that are not padding.
        """
        ...
