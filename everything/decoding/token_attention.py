"""The token side: every step without image tokens, for all prompts of a chunk in one batch.

Shapes: P prompts, T tokens, C channels, h heads of d channels, N image tokens.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from everything.decoding.decoder_parts import CrossAttention, Layer
from everything.decoding.low_rank import split_heads


def attend_to_self(layer: Layer, tokens: Tensor, position: Tensor) -> Tensor:
    """Return the tokens (P, T, C) after a layer's self-attention and first norm."""
    if layer.replaces:
        return layer.norm1(layer.self_attention(q=tokens, k=tokens, v=tokens))
    x = tokens + position
    return layer.norm1(tokens + layer.self_attention(q=x, k=x, v=tokens))


def attend_to_shared_image(
    attention: CrossAttention, tokens: Tensor, K: Tensor, V: Tensor
) -> Tensor:
    """Return what tokens (P, T, C) read from keys and values (h, N, d) that all prompts share:
    (P, T, h d), before the output projection."""
    P, T, _ = tokens.shape
    h, d = K.shape[0], K.shape[2]
    q = attention.q(tokens).view(1, P * T, h, d).transpose(1, 2)
    read = F.scaled_dot_product_attention(q, K[None], V[None])
    return read.transpose(1, 2).reshape(P, T, h * d)


def after_image(layer: Layer, tokens: Tensor, read: Tensor) -> Tensor:
    """Return the tokens (P, T, C) after a layer's attention to the image, which read
    (P, T, h d), its MLP and both norms."""
    tokens = layer.norm2(tokens + layer.to_image.out(read))
    return layer.norm3(tokens + layer.mlp(tokens))


def queries(attention: CrossAttention, tokens: Tensor) -> Tensor:
    """Return the tokens' queries (P, h, T, d), with the attention's 1 / √d folded in."""
    return _projected(attention.q, tokens, attention.heads)


def keys(attention: CrossAttention, tokens: Tensor) -> Tensor:
    """Return the tokens' keys (P, h, T, d), with the attention's 1 / √d folded in."""
    return _projected(attention.k, tokens, attention.heads)


def _projected(linear: nn.Linear, tokens: Tensor, heads: int) -> Tensor:
    x = split_heads(linear(tokens), heads)
    return x / math.sqrt(x.shape[-1])
