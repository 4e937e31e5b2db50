"""The two-way transformer, for a chunk of prompts at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from everything.core.out_of_memory import Lots
from everything.decoding.decoder_parts import Parts
from everything.decoding.image_passes import FirstUpdate, SecondUpdate
from everything.decoding.image_side import ImageSide
from everything.decoding.low_rank import split_heads
from everything.decoding.token_attention import (
    after_image,
    attend_to_self,
    attend_to_shared_image,
    keys,
    queries,
)
from everything.decoding.weight_folding import Folded

CHUNK = 16  # prompts whose weights a CPU holds at once: 13 MB for SAM


class Passes(Protocol):
    """An implementation of the two passes over an image for P prompts: see image_passes.py."""

    def first_pass(self, update: FirstUpdate, q1: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.first_pass` does."""
        ...

    def second_pass(
        self, updates: tuple[FirstUpdate, SecondUpdate], s1: Tensor, qf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.second_pass` does."""
        ...


@dataclass(frozen=True)
class Solved:
    """What drawing needs of P prompts after the transformer.

    tokens (P, T, C): after the last norm. k0, v0, k1, v1 (P, h, T, d), Mk (P, h T, K): see
    image_passes.py. s1, s2 (P, n): the scales of the n drawn image tokens.
    """

    tokens: Tensor
    k0: Tensor
    v0: Tensor
    k1: Tensor
    v1: Tensor
    Mk: Tensor
    s1: Tensor
    s2: Tensor

    @classmethod
    def cat(cls, parts: list[Solved]) -> Solved:
        """Return the prompts of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        names = [field.name for field in fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def rows(self, index: slice | Tensor) -> Solved:
        """Return some prompts; index: a slice, or int64 on the tensors' device."""
        return Solved(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def in_chunks(tokens: Tensor, step: Callable[[Tensor], Solved]) -> Solved:
    """Return what a step makes of tokens (P, T, C), CHUNK prompts at a time. P may be 0."""
    return Solved.cat([step(chunk) for chunk in torch.split(tokens, CHUNK)])


def in_lots(tokens: Tensor, lots: Lots, most: int, step: Callable[[Tensor], Solved]) -> Solved:
    """Return what a step makes of tokens (P, T, C), as many prompts at a time as memory allows.

    P may be 0. most: prompts that are expected to fit.
    """
    if not len(tokens):
        return step(tokens)
    return Solved.cat(list(lots.each(len(tokens), most, lambda lot: step(tokens[lot]))))


def solve(parts: Parts, folded: Folded, image: ImageSide, tokens: Tensor, passes: Passes) -> Solved:
    """Return prompts' tokens (P, T, C), learned ones and their own, after the transformer.

    As in SAM, the tokens are both the first queries and the position added to all later ones.
    """
    f, h, position = folded, folded.heads, tokens
    first, second, final = parts.first, parts.second, parts.final

    x = attend_to_self(first, tokens, position)
    read = attend_to_shared_image(first.to_image, x + position, image.K0, image.V0)
    x = after_image(first, x, read)
    k0, v0 = keys(first.to_tokens, x + position), split_heads(first.to_tokens.v(x), h)
    update0 = FirstUpdate.of(f, k0, v0)

    x = attend_to_self(second, x, position)
    q1 = queries(second.to_image, x + position)
    read, s1 = passes.first_pass(update0, q1)
    x = after_image(second, x, read)
    k1, v1 = keys(second.to_tokens, x + position), split_heads(second.to_tokens.v(x), h)
    update1 = SecondUpdate.of(f, update0, k1, v1)

    qf = queries(final, x + position)
    read, s2 = passes.second_pass((update0, update1), s1, qf)
    x = parts.final_norm(x + final.out(read))
    return Solved(
        tokens=x,
        k0=update0.k0,
        v0=update0.v0,
        k1=update1.k1,
        v1=update1.v1,
        Mk=update1.Mk,
        s1=s1[:, image.drawn.where],
        s2=s2[:, image.drawn.where],
    )
