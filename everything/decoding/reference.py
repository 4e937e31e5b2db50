"""The plain decoder: the original modules, for comparison and for structures unlike SAM's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everything.core.device import sent
from everything.decoding.image_side import Cells
from everything.decoding.prompt_encoding import encode_sam


@dataclass(frozen=True)
class PlainCandidates:
    """Candidates whose masks are drawn already: see `Candidates` for the fields."""

    scores: Tensor
    prompt: Tensor
    level: Tensor
    identity: Tensor
    logits: Tensor

    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits (K, 4 h, 4 w) of rows int64 (K,), in order."""
        return self.logits[sent(rows, self.logits.device)]


@dataclass(frozen=True)
class PlainImage:
    """An embedding (1, C, h, w) and the modules that decode prompts on it."""

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    embedding: Tensor

    @torch.no_grad()
    def propose(
        self, points: Tensor, labels: Tensor, multimask_output: bool, masks: Tensor | None = None
    ) -> PlainCandidates:
        """Return the candidates of P prompts; arguments and errors are those of `encode_sam`."""
        sparse, dense = encode_sam(self.prompt_encoder, points, labels, masks)
        encoder: Any = self.prompt_encoder
        dtype = self.embedding.dtype
        logits, scores = self.mask_decoder(
            image_embeddings=self.embedding,
            image_pe=encoder.get_dense_pe().to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=multimask_output,
        )
        return PlainCandidates(*numbered(scores), logits.flatten(0, 1))


@dataclass(frozen=True)
class PlainDecoder:
    """segment_anything's prompt encoder and mask decoder, called as they are."""

    prompt_encoder: nn.Module
    mask_decoder: nn.Module
    in_bulk: bool = False

    def prepare(self, embedding: Tensor, content: Cells | None = None) -> PlainImage:
        """Return an image, embedding (1, C, h, w), ready for prompts.

        content: not used; the module draws on every cell.
        """
        return PlainImage(self.prompt_encoder, self.mask_decoder, embedding)


def numbered(scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores (P, M) as those of P M candidates, with their prompts, levels and numbers,
    int64 (P M,): the fields of `Candidates`. This is the only place that waits for the device."""
    prompts, levels = scores.shape
    number = torch.arange(prompts * levels)
    return scores.flatten().cpu(), number // max(1, levels), number % max(1, levels), number
