"""Which decoder a pair of modules gets: by their structure, never by a name."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from everything.decoding.image import Cells
from everything.decoding.plain import PlainDecoder
from everything.decoding.shared import SharedImageDecoder
from everything.decoding.structure import UnlikeSAM
from everything.model import Drafts


class PreparedImage(Protocol):
    """An image ready for prompts."""

    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> Drafts:
        """Return the answers to P prompts: points float32 (P, K, 2) px of the prompt encoder's
        frame, labels int64 (P, K), masks None or logits float32 (P, 1, 4 h, 4 w)."""
        ...


class Decoder(Protocol):
    """A mask decoder that is told an image once and then asked any number of times."""

    def prepare(self, embedding: Tensor, content: Cells | None = None) -> PreparedImage:
        """Return an image, embedding (1, C, h, w), ready for prompts; content (rows, columns):
        how much of the embedding, from the top left, is not padding."""
        ...


def choose(
    prompt_encoder: nn.Module, mask_decoder: nn.Module, plain: bool = False
) -> tuple[Decoder, str]:
    """Return the shared-image decoder where the modules' structure allows it, else the plain one,
    and a sentence that says which it is and why, for reports. plain: always the plain one.
    """
    if plain:
        return PlainDecoder(prompt_encoder, mask_decoder), "plain decoder: asked for"
    try:
        shared = SharedImageDecoder.of(prompt_encoder, mask_decoder)
    except UnlikeSAM as error:
        return PlainDecoder(prompt_encoder, mask_decoder), f"plain decoder: {error}"
    return shared, "shared-image decoder, exact"
