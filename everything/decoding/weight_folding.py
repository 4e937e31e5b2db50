"""Weight folding: everything that depends on the decoder's weights alone, not on an image.

Writing cen(·) for subtracting the mean over channels, γ0, β0 and γ1, β1 for norm4 of the two
layers, Wo0 and Wo1 for the output projections of their image-to-token attentions, the keys are

    keys1 = γ0 ⊙ s1 (Xc + aᵀ M0) + β0,                  Xc = cen(X + bo0),  M0 = v0 Wc
    keys2 = γ1 ⊙ s2 (s1 (X̃ + aᵀ M̃0) + a1ᵀ M̃1) + β1,   X̃ = cen(γ0 ⊙ Xc)

with Wc = cen(Wo0), M̃0 = v0 W̃0, W̃0 = cen(γ0 ⊙ Wc), M̃1 = v1 W̃1, W̃1 = cen(Wo1), and
c = cen(β0 + bo1) added to the last row of M̃1, whose weight is one. s1 and s2 are one number for
each image token. Whatever reads the keys through a weight W and bias b therefore is a shared part
and a low-rank part: `Reading`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everything.decoding.decoder_parts import Parts, UnlikeSAM, Upscaling


@dataclass(frozen=True)
class Reading:
    """A linear map of the keys after a norm (γ, β): s ⊙ (S + aᵀ (M W)) + P.

    W (C, F): γ ⊙ weight; S = X W comes with the image. E: for each layer whose update is in the
    keys, Wo · W by head (h, d, F). c (F,): c W, zero after the first norm. P (F, N), or (F, 1)
    where no position is added: (β + position) weight + bias.
    """

    W: Tensor
    E: tuple[Tensor, ...]
    c: Tensor
    P: Tensor

    @property
    def P_by_head(self) -> Tensor:
        """P as (h, d, N), of a reading that feeds an attention."""
        return torch.unflatten(self.P, 0, (self.E[0].shape[0], -1))


@dataclass(frozen=True)
class Folded:
    """The constants of a decoder, in the symbols of this file; k1 ... up are its readings.

    position (N, C): the dense positional encoding. Wc, Wt0, Wt1 (h, d, C). gamma0, bo0, c (C,).
    `up` is the first transposed convolution, its outputs ordered (row, column, channel) and, where
    the norm that follows is over them, centred over the channels, which takes its mean.
    """

    heads: int
    position: Tensor
    bo0: Tensor
    gamma0: Tensor
    c: Tensor
    Wc: Tensor
    Wt0: Tensor
    Wt1: Tensor
    eps0: float
    eps1: float
    k1: Reading
    v1: Reading
    q1: Reading
    kf: Reading
    vf: Reading
    up: Reading


def centred(x: Tensor) -> Tensor:
    """Return cen(x): x less its mean over the channels, the last dimension."""
    return x - x.mean(-1, keepdim=True)


def fold(parts: Parts, position: Tensor) -> Folded:
    """Return the constants of a decoder for a dense positional encoding (N, C).

    Raises UnlikeSAM if the attentions do not have the same number of heads.
    """
    h = _heads(parts)
    first, second = parts.first, parts.second
    gamma0, beta0 = first.norm4.weight.detach(), first.norm4.bias.detach()
    Wc = centred(_weight(first.to_tokens.out))  # (h d, C)
    Wt0, Wt1 = centred(gamma0 * Wc), centred(_weight(second.to_tokens.out))
    c = centred(beta0 + _bias(second.to_tokens.out))

    def after_first(linear: nn.Linear, position: Tensor | float = 0.0) -> Reading:
        zero = torch.zeros_like(gamma0)
        return _reading(_weight(linear), _bias(linear), first.norm4, position, (Wc,), zero, h)

    def after_second(weight: Tensor, bias: Tensor, position: Tensor | float = 0.0) -> Reading:
        return _reading(weight, bias, second.norm4, position, (Wt0, Wt1), c, h)

    kf, vf = parts.final.k, parts.final.v
    return Folded(
        heads=h,
        position=position,
        bo0=_bias(first.to_tokens.out),
        gamma0=gamma0,
        c=c,
        Wc=_by_head(Wc, h),
        Wt0=_by_head(Wt0, h),
        Wt1=_by_head(Wt1, h),
        eps0=first.norm4.eps,
        eps1=second.norm4.eps,
        k1=after_first(second.to_image.k, position),
        v1=after_first(second.to_image.v),
        q1=after_first(second.to_tokens.q, position),
        kf=after_second(_weight(kf), _bias(kf), position),
        vf=after_second(_weight(vf), _bias(vf)),
        up=after_second(*_convolution(parts.upscaling)),
    )


def _reading(
    weight: Tensor,
    bias: Tensor,
    norm: nn.LayerNorm,
    position: Tensor | float,
    bases: tuple[Tensor, ...],
    c: Tensor,
    heads: int,
) -> Reading:
    gamma, beta = norm.weight.detach(), norm.bias.detach()
    W = gamma[:, None] * weight
    E = tuple(_by_head(base @ W, heads) for base in bases)
    P = (beta + position).reshape(-1, len(beta)) @ weight + bias
    return Reading(W, E, c @ W, P.T.contiguous())


def _convolution(upscaling: Upscaling) -> tuple[Tensor, Tensor]:
    """The first transposed convolution, of stride 2, as a weight (C, 4 F) and a bias, centred over
    F if the norm after it is over F alone."""
    conv = upscaling.first
    kernel, bias = conv.weight.detach().permute(0, 2, 3, 1), _bias(conv)
    if not upscaling.norm.over_map:
        kernel, bias = centred(kernel), centred(bias)
    return kernel.flatten(1), bias.repeat(kernel.shape[1] * kernel.shape[2])


def _heads(parts: Parts) -> int:
    crossings = [layer.to_image for layer in (parts.first, parts.second)]
    crossings += [layer.to_tokens for layer in (parts.first, parts.second)]
    heads = {attention.heads for attention in (*crossings, parts.final)}
    if len(heads) != 1:
        raise UnlikeSAM(f"the attentions have {sorted(heads)} heads")
    return heads.pop()


def _by_head(weight: Tensor, heads: int) -> Tensor:
    return torch.unflatten(weight, 0, (heads, -1)).contiguous()


def _weight(linear: nn.Linear) -> Tensor:
    return linear.weight.detach().T


def _bias(linear: nn.Linear | nn.ConvTranspose2d) -> Tensor:
    bias = linear.bias
    return linear.weight.new_zeros(()) if bias is None else bias.detach()
