"""SAM's mask decoder as its authors run it: every prompt with its own copy of the image tokens.

The reference that the shared-image decoder (everything/decoder.py) is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from everything.prompts import BOTTOM_RIGHT, TOP_LEFT


@dataclass(frozen=True)
class Drawn:
    """Drafts that are drawn already: see everything.model.Drafts for the fields.

    logits: float32 (N, hl, wl) over the canvas.
    """

    logits: Tensor
    scores: Tensor
    prompt: Tensor
    level: Tensor

    @property
    def identity(self) -> Tensor:
        """Every row is a mask of its own."""
        return torch.arange(len(self.scores), device=self.scores.device)

    def draw(self, rows: Tensor) -> Tensor:
        """Return the logits of some rows, (K, hl, wl)."""
        return self.logits[rows]


@dataclass(frozen=True)
class PlainDecoder:
    """A prompt encoder and a mask decoder of segment_anything's classes."""

    prompt_encoder: Any
    mask_decoder: Any

    def prepare(self, embedding: Tensor) -> PlainImageSide:
        """Return the image side of an embedding float32 (1, C, h, w)."""
        return PlainImageSide(self, embedding)


@dataclass(frozen=True)
class PlainImageSide:
    """What the decoder needs of an image: its embedding as it is."""

    decoder: PlainDecoder
    embedding: Tensor

    def propose(self, points: Tensor, labels: Tensor, multimask_output: bool) -> Drawn:
        """Return the answers to P prompts: points float64 (P, K, 2) canvas px, labels (P, K)."""
        encoder, decoder = self.decoder.prompt_encoder, self.decoder.mask_decoder
        points, labels = points.to(self.embedding.device), labels.to(self.embedding.device)
        sparse, dense = encode_prompts(encoder, points, labels)
        logits, scores = decoder(
            image_embeddings=self.embedding,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )
        count, answers = scores.shape
        rows = torch.arange(count * answers, device=scores.device)
        return Drawn(logits.flatten(0, 1), scores.flatten(), rows // answers, rows % answers)


def encode_prompts(encoder: Any, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return SAM's sparse (P, T, C) and dense (P, C, h, w) embeddings of prompts.

    points: (P, K, 2) canvas px. labels: (P, K), 2 and 3 a box's corners. Box corners go through
    the encoder's box path, all else through its point path; a prompt with both has both.
    """
    corner = (labels == TOP_LEFT) | (labels == BOTTOM_RIGHT)
    if not corner.any():
        return encoder(points=(points, labels), boxes=None, masks=None)  # type: ignore[no-any-return]
    boxes = points[corner].reshape(len(points), 4)
    rest = ~corner.all(0)
    clicks = (points[:, rest], labels[:, rest]) if rest.any() else None
    return encoder(points=clicks, boxes=boxes, masks=None)  # type: ignore[no-any-return]
