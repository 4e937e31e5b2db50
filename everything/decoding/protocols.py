"""What every decoder offers, plain or shared."""

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
        """Return the answers to P prompts: points float32 (P, K, 2) px of the prompt encoder's
        frame, labels int64 (P, K), masks None or logits float32 (P, 1, 4 h, 4 w)."""
        ...


class Decoder(Protocol):
    """A mask decoder that is told an image once and then asked any number of times."""

    def prepare(self, embedding: Tensor, content: Cells | None = None) -> PreparedImage:
        """Return an image, embedding (1, C, h, w), ready for prompts; content (rows, columns):
        how much of the embedding, from the top left, is not padding."""
        ...
