"""Low-rank updates: what an attention from image to tokens adds to the keys.

Image token n receives, from every head h, a mix of T value rows: Σ_t A_(h,t,n) m_(h,t), where the
weights A sum to one over t. With the last token as the reference the mix is
Σ_(t<T) A_t (m_t - m_T) + m_T, so the whole update is aᵀ M with K = h (T - 1) + 1 rows: `a` holds
the weights of all but the reference token and a last row of ones, M the differences and, as its
last row, the reference rows summed over the heads. Every linear map of the keys then is a map of
these K rows, which no image token has to see.

Shapes: P prompts, h heads of d channels, T tokens, N image tokens, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (P, T, h d) as (P, h, T, d)."""
    return torch.unflatten(x, -1, (heads, x.shape[-1] // heads)).transpose(1, 2).contiguous()


def merge_heads(x: Tensor) -> Tensor:
    """Return (P, h, T, d) as (P, T, h d)."""
    return x.transpose(1, 2).flatten(2)


def differences(v: Tensor) -> Tensor:
    """Return values (P, h, T, d) as differences to the last token's, which itself stays last."""
    return torch.cat([v[:, :, :-1] - v[:, :, -1:], v[:, :, -1:]], 2)


def rows(v: Tensor, E: Tensor) -> Tensor:
    """Return the K rows (P, K, F) that `differences` v (P, h, T, d) become under the map E.

    E (h, d, F) maps a head's values to the features wanted: M itself with the output projection,
    M W with that times a later weight.
    """
    P, h, T, d = v.shape
    mapped = torch.bmm(v.transpose(0, 1).reshape(h, P * T, d), E).view(h, P, T, E.shape[2])
    each = mapped[:, :, :-1].transpose(0, 1).reshape(P, h * (T - 1), E.shape[2])
    return torch.cat([each, mapped[:, :, -1].sum(0)[:, None]], 1)


def gram(M: Tensor, other: Tensor) -> Tensor:
    """Return the products of the rows of M (P, K, C) with those of another, over C: (P, K, K)."""
    return torch.bmm(M, other.transpose(1, 2)) / M.shape[-1]


def against(q: Tensor, M: Tensor) -> Tensor:
    """Return q (P, h, T, d) times rows M (P, K, h d), head by head: (P, h T, K)."""
    per_head = torch.unflatten(M, -1, (q.shape[1], q.shape[3])).permute(0, 2, 3, 1)
    return torch.matmul(q, per_head).flatten(1, 2)


def by_head(M: Tensor, heads: int) -> Tensor:
    """Return rows M (P, K, h d) as (P, h, K, d)."""
    return split_heads(M, heads)


def mix_(scores: Tensor, a: Tensor) -> None:
    """Turn scores (h, T, N) of the tokens into weights: fill all but the last row of a (K, N).

    The softmax is over the tokens; the last row of `a` must be ones. `scores` is overwritten.
    """
    torch.softmax(scores, 1, out=scores)
    h, T, N = scores.shape
    a[:-1].view(h, T - 1, N).copy_(scores[:, :-1])


def quadratic_(U: Tensor, G: Tensor, a: Tensor) -> Tensor:
    """Return Σ_i a_i (U_i + (G a)_i), (N,): what the update aᵀ M adds to |keys|² / C.

    U (K, N): (2 / C) keys · M_i, overwritten. G (K, K): the Gram matrix of M. a (K, N).
    """
    return U.addmm_(G, a).mul_(a).sum(0)
