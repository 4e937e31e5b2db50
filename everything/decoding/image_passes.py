"""The two passes over the image tokens, one prompt after the other.

A prompt's update of the keys is a few rows (low_rank.py), so a pass forms only (T h, N) scores and
(K, N) weights, which stay in the processor's cache, and no (N, C) tensor. Products are batched
over heads. The same with a leading dimension of prompts, for accelerators, is gpu_batched.py; the
same compiled, cpu_kernels.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from everything.decoding.image_side import ImageSide
from everything.decoding.low_rank import (
    against,
    by_head,
    differences,
    gram,
    merge_heads,
    mix_,
    quadratic_,
    rows,
)
from everything.decoding.weight_folding import Folded, Reading


@dataclass(frozen=True)
class Workspace:
    """Buffers of one chunk of prompts, reused from prompt to prompt.

    scores (h, T, N). update, other (K, N). a (P, K, N): the weights of layer 0 of every prompt;
    a1 (K, N): those of layer 1. The last rows of a and a1 are ones. s1, s2 (P, N).
    """

    scores: Tensor
    update: Tensor
    a: Tensor
    a1: Tensor

    @classmethod
    def like(cls, x: Tensor, prompts: int, heads: int, tokens: int) -> Workspace:
        """Return buffers for that many prompts, of x's dtype and device; x is (..., N)."""
        K, N = heads * (tokens - 1) + 1, x.shape[-1]
        a, a1 = x.new_empty(prompts, K, N), x.new_empty(K, N)
        a[:, -1], a1[-1] = 1, 1
        return cls(x.new_empty(heads, tokens, N), x.new_empty(K, N), a, a1)


@dataclass(frozen=True)
class FirstUpdate:
    """What layer 0's image-to-token attention does to the keys.

    k0, v0 (P, h, T, d): the tokens' keys and, as differences, values. G (P, K, K): the Gram
    matrix of M0, over C.
    """

    k0: Tensor
    v0: Tensor
    G: Tensor

    @classmethod
    def of(cls, folded: Folded, k0: Tensor, v: Tensor) -> FirstUpdate:
        """Return the update of tokens with scaled keys k0 and values v (P, h, T, d)."""
        v0 = differences(v)
        M0 = rows(v0, folded.Wc)
        return cls(k0, v0, gram(M0, M0))


@dataclass(frozen=True)
class SecondUpdate:
    """What layer 1's image-to-token attention does to the keys.

    k1, v1 (P, h, T, d) as in FirstUpdate. Mk (P, h T, K): k1 against the rows that layer 0 left.
    G00, G10, G11 (P, K, K): Gram matrices, over C, of M̃0 and M̃1 with c in its last row; G10 is
    doubled, as both cross terms need it.
    """

    k1: Tensor
    v1: Tensor
    Mk: Tensor
    G00: Tensor
    G10: Tensor
    G11: Tensor

    @classmethod
    def of(cls, folded: Folded, first: FirstUpdate, k1: Tensor, v: Tensor) -> SecondUpdate:
        """Return the update of tokens with scaled keys k1 and values v (P, h, T, d)."""
        v1 = differences(v)
        M0, M1 = rows(first.v0, folded.Wt0), rows(v1, folded.Wt1)
        M1[:, -1] += folded.c
        Mk = against(k1, rows(first.v0, folded.q1.E[0]))
        return cls(k1, v1, Mk, gram(M0, M0), 2 * gram(M1, M0), gram(M1, M1))


@dataclass(frozen=True)
class InTorch:
    """The two passes as torch's operations, for one chunk of prompts."""

    folded: Folded
    image: ImageSide
    work: Workspace

    @classmethod
    def of(cls, folded: Folded, image: ImageSide, tokens: Tensor) -> InTorch:
        """Return the passes for prompts with tokens (P, T, C)."""
        work = Workspace.like(image.n0, len(tokens), folded.heads, tokens.shape[1])
        return cls(folded, image, work)

    def first_pass(self, update: FirstUpdate, q1: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `first_pass` returns."""
        return first_pass(self.folded, self.image, update, q1, self.work)

    def second_pass(
        self, updates: tuple[FirstUpdate, SecondUpdate], s1: Tensor, qf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what `second_pass` returns."""
        return second_pass(self.folded, self.image, updates, s1, qf, self.work)


def first_pass(
    folded: Folded, image: ImageSide, update: FirstUpdate, q1: Tensor, work: Workspace
) -> tuple[Tensor, Tensor]:
    """Apply layer 0's update to the keys and let layer 1's tokens, queries q1, read them.

    Returns what they read (P, T, h d), before the output projection, and s1 (P, N); leaves the
    weights in work.a. With a the weights and M0 the rows of the update:

        σ1² = n0 + Σ_i a_i (U_i + (G a)_i),   U = v0 Z0,   s1 = 1 / σ1
        scores = s1 ⊙ (q1 S_k1 + Mq a) + q1 P_k1
        read = (w ⊙ s1) (S_v1 + aᵀ (M0 W_v1)) + P_v1,   w = softmax(scores)
    """
    f, h = folded, folded.heads
    Mq = against(q1, rows(update.v0, f.k1.E[0]))
    Mv = by_head(rows(update.v0, f.v1.E[0]), h)
    last = _last_rows(update.v0, image.Z0)
    s1, reads = torch.empty_like(last), torch.empty_like(q1)
    for p in range(len(q1)):
        a = work.a[p]
        mix_(torch.bmm(update.k0[p], image.Q0, out=work.scores), a)
        U = _updates(update.v0[p], image.Z0, last[p], work.update)
        torch.add(quadratic_(U, update.G[p], a), image.n0, out=s1[p]).rsqrt_()
        w = torch.bmm(q1[p], image.S_k1, out=work.scores)
        w.view(-1, w.shape[-1]).addmm_(Mq[p], a)
        w.mul_(s1[p]).baddbmm_(q1[p], f.k1.P_by_head)
        torch.softmax(w, -1, out=w).mul_(s1[p])
        read = torch.bmm(w, image.S_v1.transpose(1, 2), out=reads[p])
        read.baddbmm_(_gathered(w, a), Mv[p]).add_(f.v1.P.view(h, 1, -1))
    return merge_heads(reads), s1


def second_pass(
    folded: Folded,
    image: ImageSide,
    updates: tuple[FirstUpdate, SecondUpdate],
    s1: Tensor,
    qf: Tensor,
    work: Workspace,
) -> tuple[Tensor, Tensor]:
    """Apply layer 1's update to the keys and let the final attention, queries qf, read them.

    Returns what it reads (P, T, h d), before the output projection, and s2 (P, N). With a, a1 the
    weights and M̃0, M̃1 the rows of the two updates, U = v0 Z̃0 and V = v1 Z̃1 (its last row also
    holds z_c):

        σ2² = s1² (n1 + Σ_i a_i (U_i + (G00 a)_i)) + ε
              + Σ_j a1_j (s1 (V_j + (G10 a)_j) + (G11 a1)_j),   s2 = 1 / σ2
        scores = s2 ⊙ (s1 ⊙ (qf S_kf + M0 a) + M1 a1) + qf P_kf
        read = (w ⊙ s2 ⊙ s1) (S_vf + aᵀ (M̃0 W_vf)) + (w ⊙ s2) a1ᵀ (M̃1 W_vf) + P_vf
    """
    f, h, (first, second) = folded, folded.heads, updates
    M0, M1 = (against(qf, each) for each in read_rows(f.kf, first.v0, second.v1))
    Mv0, Mv1 = (by_head(each, h) for each in read_rows(f.vf, first.v0, second.v1))
    last0 = _last_rows(first.v0, image.Zt0)
    last1 = _last_rows(second.v1, image.Zt1) + image.z_c
    s2, reads = torch.empty_like(s1), torch.empty_like(qf)
    for p in range(len(qf)):
        a, a1 = work.a[p], work.a1
        w = torch.bmm(second.k1[p], image.S_q1, out=work.scores)
        layer1_scores_(w, (second.k1[p], second.Mk[p]), s1[p], a, f.q1.P_by_head)
        mix_(w, a1)
        U = _updates(first.v0[p], image.Zt0, last0[p], work.update)
        before = quadratic_(U, second.G00[p], a).add_(image.n1).mul_(s1[p]).mul_(s1[p])
        V = _updates(second.v1[p], image.Zt1, last1[p], work.update)
        V.addmm_(second.G10[p], a).mul_(s1[p])
        torch.add(quadratic_(V, second.G11[p], a1), before, out=s2[p]).add_(f.eps1).rsqrt_()
        w = torch.bmm(qf[p], image.S_kf, out=work.scores)
        flat = w.view(-1, w.shape[-1])
        flat.addmm_(M0[p], a).mul_(s1[p]).addmm_(M1[p], a1).mul_(s2[p])
        w.baddbmm_(qf[p], f.kf.P_by_head)
        torch.softmax(w, -1, out=w).mul_(s2[p])
        later = _gathered(w, a1)
        w.mul_(s1[p])
        read = torch.bmm(w, image.S_vf.transpose(1, 2), out=reads[p])
        read.baddbmm_(_gathered(w, a), Mv0[p]).baddbmm_(later, Mv1[p])
        read.add_(f.vf.P.view(h, 1, -1))
    return merge_heads(reads), s2


def layer1_scores_(
    scores: Tensor, k1_Mk: tuple[Tensor, Tensor], s1: Tensor, a: Tensor, P_q1: Tensor
) -> None:
    """Complete scores (h, T, N) = k1 S_q1 of one prompt to s1 ⊙ (k1 S_q1 + Mk a) + k1 P_q1."""
    k1, Mk = k1_Mk
    scores.view(-1, scores.shape[-1]).addmm_(Mk, a)
    scores.mul_(s1).baddbmm_(k1, P_q1)


def read_rows(reading: Reading, v0: Tensor, v1: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (P, K, F) of both updates as a reading of the final keys sees them."""
    M0, M1 = rows(v0, reading.E[0]), rows(v1, reading.E[1])
    M1[:, -1] += reading.c
    return M0, M1


def _last_rows(v: Tensor, Z: Tensor) -> Tensor:
    """The reference tokens' share of v Z, summed over the heads: (P, N)."""
    return v[:, :, -1].flatten(1) @ Z.flatten(0, 1)


def _updates(v: Tensor, Z: Tensor, last: Tensor, out: Tensor) -> Tensor:
    """v Z in rows (K, N): each difference of v (h, T, d) with Z (h, d, N), then `last` (N,)."""
    torch.bmm(v[:, :-1], Z, out=out[:-1].view(len(v), -1, out.shape[-1]))
    out[-1] = last
    return out


def _gathered(w: Tensor, a: Tensor) -> Tensor:
    """w (h, T, N) times aᵀ: (h, T, K)."""
    return (w.view(-1, w.shape[-1]) @ a.T).view(*w.shape[:2], -1)
