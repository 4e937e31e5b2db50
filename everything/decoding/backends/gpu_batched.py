"""The passes over the image and the drawing with a leading dimension of prompts, for accelerators.

The algebra of image_passes.py and shared_image.py again, with every step one operation for a whole
batch, since a GPU starves on one prompt at a time. What a prompt adds is (T h, N) and (K, N)
numbers, 0.9 MB each with SAM, which memory that is this fast can hold for many prompts; products
with the image's side are of all prompts' rows at once, so that nothing shared is copied.

Compiled, what is between the products is fused into few kernels. Graphs are of batches whose size
is a power of two: prompts of zeros fill them up. (CUDA graphs would save what launches take, which
is little beside kernels over 64 prompts' scores.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from everything.core.device import sent
from everything.core.out_of_memory import Lots
from everything.decoding import upscale
from everything.decoding.backends.protocol import Answers, Limits
from everything.decoding.decoder_parts import Parts
from everything.decoding.image_passes import FirstUpdate, SecondUpdate, read_rows
from everything.decoding.image_side import ImageSide
from everything.decoding.low_rank import against, by_head, merge_heads, rows
from everything.decoding.transformer import Solved, in_lots, solve
from everything.decoding.weight_folding import Folded

_SCORING = 8  # arrays of a number per token and image token that are held at a time
_DRAWING = 3  # the same, of feature maps
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@cache
def compiled(step: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Return a step as one graph of torch.compile's, made for each kind of its arguments once."""
    return torch.compile(step, fullgraph=True)


def filled(x: Tensor) -> Tensor:
    """Return x (P, ...) with rows of zeros up to a power of two."""
    more = (1 << max(0, len(x) - 1).bit_length()) - len(x) if len(x) else 0
    return F.pad(x, (0,) * (2 * x.dim() - 1) + (more,))


@dataclass(frozen=True)
class TorchBatches:
    """The backend for accelerators without Triton's kernels.

    Attributes:
        limits: What the device is given at a time.
        compiled: Whether torch.compile makes graphs of the scoring and of the drawing.
        scored: How many prompts memory has allowed to score at a time.
        drawn: The same, of prompts whose masks are drawn.
    """

    limits: Limits
    compiled: bool = False
    in_bulk: bool = True
    scored: Lots = field(init=False, repr=False, compare=False)
    drawn: Lots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scored", Lots("prompts are scored", self.limits.prompts))
        object.__setattr__(self, "drawn", Lots("prompts' masks are drawn", self.limits.prompts))

    def image(self, parts: Parts, folded: Folded, image: ImageSide) -> BatchedImage:
        """Return an image's side, ready for prompts."""
        return BatchedImage(parts, folded, image, self)


@dataclass(frozen=True)
class BatchedImage:
    """An image's side for many prompts at a time."""

    parts: Parts
    folded: Folded
    image: ImageSide
    backend: TorchBatches

    def solve(self, tokens: Tensor) -> Solved:
        """Return prompts' tokens (P, T, C) after the transformer."""
        h, (_, T, _), N = self.folded.heads, tokens.shape, len(self.image.n0)
        most = self.backend.limits.memory // (_SCORING * h * T * N * tokens.element_size())
        return in_lots(tokens, self.backend.scored, most, self._solve)

    def _solve(self, tokens: Tensor) -> Solved:
        image = self.parts, self.folded, self.image
        if not self.backend.compiled:
            return solve(*image, tokens, self)
        solved: Solved = compiled(solve)(*image, filled(tokens), self)
        return solved.rows(slice(len(tokens)))

    def first_pass(self, update: FirstUpdate, q1: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.first_pass` does."""
        f, i, v0 = self.folded, self.image, update.v0
        Mq, Mv = against(q1, rows(v0, f.k1.E[0])), by_head(rows(v0, f.v1.E[0]), f.heads)
        a = mixed(shared(update.k0, i.Q0))
        s1 = (i.n0 + (a * (update_rows(v0, i.Z0) + update.G @ a)).sum(1)).rsqrt()
        w = self._layer1_scores(q1, Mq, i.S_k1, f.k1.P_by_head, s1, a)
        w = torch.softmax(w, -1) * s1[:, None, None]
        read = read_shared(w, i.S_v1) + gathered(w, a) @ Mv
        return merge_heads(read + f.v1.P.view(f.heads, 1, -1)), s1

    def second_pass(
        self, updates: tuple[FirstUpdate, SecondUpdate], s1: Tensor, qf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `image_passes.second_pass` does."""
        f, i, (first, second) = self.folded, self.image, updates
        M0, M1 = (against(qf, each) for each in read_rows(f.kf, first.v0, second.v1))
        Mv0, Mv1 = (by_head(each, f.heads) for each in read_rows(f.vf, first.v0, second.v1))
        a = mixed(shared(first.k0, i.Q0))
        a1 = mixed(self._layer1_scores(second.k1, second.Mk, i.S_q1, f.q1.P_by_head, s1, a))
        before = i.n1 + (a * (update_rows(first.v0, i.Zt0) + second.G00 @ a)).sum(1)
        V = update_rows(second.v1, i.Zt1)
        V[:, -1] += i.z_c
        V = (V + second.G10 @ a) * s1[:, None] + second.G11 @ a1
        s2 = (s1.square() * before + (a1 * V).sum(1) + f.eps1).rsqrt()
        w = torch.baddbmm(M1 @ a1, M0, a * s1[:, None]).mul_(s2[:, None])
        w = w.view(*qf.shape[:3], w.shape[-1])
        w = w + shared(qf, i.S_kf) * (s1 * s2)[:, None, None] + shared(qf, f.kf.P_by_head)
        w = torch.softmax(w, -1) * s2[:, None, None]
        read = gathered(w, a1) @ Mv1
        w = w * s1[:, None, None]
        read = read + read_shared(w, i.S_vf) + gathered(w, a) @ Mv0
        return merge_heads(read + f.vf.P.view(f.heads, 1, -1)), s2

    def draw(
        self, solved: Solved, hyper: Tensor, answers: Answers, position: Tensor, out: Tensor
    ) -> None:
        """Draw masks: see `BackendImage`. All answers to a prompt are drawn, as its features are
        what takes long, and to leave out others would copy these."""
        conv, n = self.parts.upscaling.second, len(self.image.drawn.where)
        bytes_each = _DRAWING * 16 * conv.out_channels * n * hyper.element_size()
        bytes_each += 4 * conv.in_channels * n * hyper.element_size()
        most = self.backend.limits.memory // 2 // bytes_each
        columns = torch.stack([answers.prompt, answers.level, position])
        at = sent(columns, out.device)

        def step(lot: slice) -> None:
            ends = torch.tensor([lot.start, lot.stop])
            first, last = torch.searchsorted(answers.prompt, ends).tolist()
            self._draw(solved.rows(lot), hyper[lot], at[:, first:last], lot.start, out)

        for _ in self.backend.drawn.each(len(hyper), most, step):
            pass

    def _draw(self, solved: Solved, hyper: Tensor, at: Tensor, start: int, out: Tensor) -> None:
        """Draw answers `at` (3, N): their prompts, of which the first is number `start`, levels
        and places."""
        r, c = self.image.drawn.cells
        prompt, level, place = at
        values = hyper[:, None, None] @ self._features_of(solved)  # (P, 4, 4, M, n)
        pixels = values.transpose(1, 3)[prompt - start, level].view(-1, 2, 2, 2, 2, r, c)
        pixels = pixels.permute(0, 5, 3, 1, 6, 4, 2).reshape(-1, 4 * r, 4 * c)
        out[place, : 4 * r, : 4 * c] = pixels

    def _features_of(self, s: Solved) -> Tensor:
        prompts = (s.k0, s.v0, s.k1, s.v1, s.Mk, s.s1, s.s2)
        if not self.backend.compiled:
            return self._features(*prompts)
        found: Tensor = compiled(BatchedImage._features)(self, *map(filled, prompts))
        return found[: len(s.k0)]

    def _features(
        self, k0: Tensor, v0: Tensor, k1: Tensor, v1: Tensor, Mk: Tensor, s1: Tensor, s2: Tensor
    ) -> Tensor:
        """The mask features (P, 4, 4, G, n) of prompts."""
        drawn = self.image.drawn
        a = mixed(shared(k0, drawn.Q0))
        a1 = mixed(self._layer1_scores(k1, Mk, drawn.S_q1, drawn.P_q1, s1, a))
        M = torch.cat(read_rows(self.folded.up, v0, v1), 1)
        r = (s1 * s2)[:, None]
        u = M.transpose(1, 2) @ torch.cat([a * r, a1 * s2[:, None]], 1)
        u = torch.unflatten(u.addcmul_(drawn.S_up, r).add_(drawn.P_up), 1, (4, -1))
        return upscale.mask_features(u, self.parts.upscaling, drawn.skip)

    @staticmethod
    def _layer1_scores(k: Tensor, M: Tensor, S: Tensor, P: Tensor, s1: Tensor, a: Tensor) -> Tensor:
        """s1 ⊙ (k S + M a) + k P, (P, h, T, N)."""
        w = shared(k, S)
        w += (M @ a).view(w.shape)
        return w.mul_(s1[:, None, None]).add_(shared(k, P))


def shared(q: Tensor, S: Tensor) -> Tensor:
    """Return q (P, h, T, d) times S (h, d, N), which all prompts share: (P, h, T, N)."""
    P, h, T, d = q.shape
    product = torch.bmm(q.transpose(0, 1).reshape(h, P * T, d), S)
    return product.view(h, P, T, S.shape[2]).transpose(0, 1).contiguous()


def read_shared(w: Tensor, S: Tensor) -> Tensor:
    """Return weights w (P, h, T, N) times S (h, d, N)ᵀ: (P, h, T, d)."""
    P, h, T, N = w.shape
    product = torch.bmm(w.transpose(0, 1).reshape(h, P * T, N), S.transpose(1, 2))
    return product.view(h, P, T, S.shape[1]).transpose(0, 1)


def mixed(scores: Tensor) -> Tensor:
    """Return the weights (P, K, N) of scores (P, h, T, N): see `low_rank.mix_`."""
    a = torch.softmax(scores, 2)[:, :, :-1].flatten(1, 2)
    return F.pad(a, (0, 0, 0, 1), value=1.0)


def update_rows(v: Tensor, Z: Tensor) -> Tensor:
    """Return v Z in rows (P, K, N): differences of v (P, h, T, d), then the last tokens' sum."""
    found = shared(v, Z)
    return torch.cat([found[:, :, :-1].flatten(1, 2), found[:, :, -1].sum(1)[:, None]], 1)


def gathered(w: Tensor, a: Tensor) -> Tensor:
    """Return w (P, h, T, N) times a (P, K, N)ᵀ: (P, h, T, K)."""
    return (w.flatten(1, 2) @ a.transpose(1, 2)).view(*w.shape[:3], a.shape[1])
