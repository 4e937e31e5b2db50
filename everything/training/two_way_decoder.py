"""SAM's mask decoder for training: the same function in half the work.

Image tokens of every prompt are many and projections of them are dear; tokens of a prompt are few.
Since (x W_k)ᵀ q = xᵀ (W_k q), keys, values and queries of the image are never formed: a prompt's
tokens go through the weights instead. The first layer's image is the same for all prompts. Unlike
everything.decoding, which is for inference alone, gradients flow through everything here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def decode_prompts(
    decoder: Any,
    image: Tensor,
    position: Tensor,
    sparse: Tensor,
    drawn: Tensor | None = None,
    skip: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return logits (P, M, n, 16) and predicted IoU (P, M) of P prompts and all M mask tokens.

    decoder: of segment_anything's class MaskDecoder. image, position (N, C): embedding with the
    dense prompt added, and positional code, of all cells. sparse (P, T, C): prompt tokens. drawn
    int64 (n,): cells that are drawn, all by default. skip (n, 4, 4, C / 8): added to the mask
    features. The 16 sub-cells of a cell are (row, column) of the first, then of the second x2
    step: see `assemble`.
    """
    learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    start = torch.cat([learned.expand(len(sparse), -1, -1), sparse], 1)
    tokens, image = start, image[None]
    for layer in decoder.transformer.layers:
        tokens, image = _layer(layer, tokens, start, image, position)
    final = decoder.transformer.final_attn_token_to_image
    read = _read(final, tokens + start, image, position)
    tokens = decoder.transformer.norm_final_attn(tokens + read)
    scores = decoder.iou_prediction_head(tokens[:, 0])
    networks = decoder.output_hypernetworks_mlps
    hyper = torch.stack([net(tokens[:, 1 + i]) for i, net in enumerate(networks)], 1)
    if drawn is not None:
        image = image[:, drawn]
    features = _features(decoder.output_upscaling, image, skip)
    logits = hyper @ features.flatten(1, 3).transpose(1, 2)
    return torch.unflatten(logits, 2, (-1, 16)), scores


def assemble(logits: Tensor, cells: tuple[int, int]) -> Tensor:
    """Return logits (P, M, n, 16) as maps (P, M, 4 rows, 4 columns); n = rows · columns cells."""
    prompts, masks = logits.shape[:2]
    rows, columns = cells
    x = logits.reshape(prompts, masks, rows, columns, 2, 2, 2, 2)
    return x.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(prompts, masks, 4 * rows, 4 * columns)


def _layer(
    layer: Any, tokens: Tensor, start: Tensor, image: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """One layer: tokens (P, T, C) and image (P or 1, N, C), both renewed."""
    if layer.skip_first_layer_pe:
        tokens = _among(layer.self_attn, tokens, tokens)
    else:
        tokens = tokens + _among(layer.self_attn, tokens + start, tokens)
    tokens = layer.norm1(tokens)
    read = _read(layer.cross_attn_token_to_image, tokens + start, image, position)
    tokens = layer.norm2(tokens + read)
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    attention = layer.cross_attn_image_to_token
    update = _written(attention, image, position, tokens + start, tokens)
    return tokens, layer.norm4(image + update)


def _among(attention: Any, x: Tensor, values: Tensor) -> Tensor:
    """Attention of tokens (P, T, C) to each other."""
    h = attention.num_heads
    q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(values)
    mixed = F.scaled_dot_product_attention(_heads(q, h), _heads(k, h), _heads(v, h))
    result: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return result


def _read(attention: Any, tokens: Tensor, image: Tensor, position: Tensor) -> Tensor:
    """What tokens (P, T, C) read from the image (P or 1, N, C). The keys' bias adds the same to
    all scores of a row, which softmax does not see."""
    h = attention.num_heads
    q = _heads(attention.q_proj(tokens), h)
    q = (q / math.sqrt(q.shape[-1])) @ _by_head(attention.k_proj.weight, h)
    rows = q.flatten(1, 2)  # (P, h T, C)
    weights = _scores(rows, image, position).softmax(-1)
    read = weights @ image[0] if len(image) == 1 else torch.bmm(weights, image)
    v = _by_head(attention.v_proj.weight, h).transpose(1, 2)
    heads = torch.unflatten(read, 1, (h, -1)) @ v + attention.v_proj.bias.view(h, 1, -1)
    result: Tensor = attention.out_proj(heads.transpose(1, 2).flatten(2))
    return result


def _written(
    attention: Any, image: Tensor, position: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """What the image (P or 1, N, C) receives from tokens, their keys and values (P, T, C)."""
    h = attention.num_heads
    k = _heads(attention.k_proj(keys), h)
    k = k / math.sqrt(k.shape[-1])
    rows = (k @ _by_head(attention.q_proj.weight, h)).flatten(1, 2)
    bias = (k * attention.q_proj.bias.view(h, 1, -1)).sum(-1).flatten(1)
    scores = _scores(rows, image, position).transpose(1, 2) + bias[:, None]
    weights = torch.unflatten(scores, 2, (h, -1)).softmax(-1).flatten(2)
    out = _by_head(attention.out_proj.weight.T, h)
    update = (_heads(attention.v_proj(values), h) @ out).flatten(1, 2)
    result: Tensor = torch.bmm(weights, update) + attention.out_proj.bias
    return result


def _scores(rows: Tensor, image: Tensor, position: Tensor) -> Tensor:
    """rows (P, R, C) times image plus position, (P, R, N)."""
    if len(image) == 1:
        return rows @ (image[0] + position).T
    return torch.baddbmm(rows @ position.T, rows, image.transpose(1, 2))


def _heads(x: Tensor, h: int) -> Tensor:
    return torch.unflatten(x, -1, (h, -1)).transpose(1, 2)


def _by_head(weight: Tensor, h: int) -> Tensor:
    return torch.unflatten(weight, 0, (h, -1))


def _features(upscaling: Any, image: Tensor, skip: Tensor | None) -> Tensor:
    """Mask features (P, n, 4, 4, G) of image tokens (P, n, C). Both transposed convolutions have
    stride 2 and no overlap, so each is one product."""
    first, norm, gelu, second, other = upscaling
    x = _doubled(first, image)
    x = gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
    x = _doubled(second, x)
    return other(x if skip is None else x + skip)  # type: ignore[no-any-return]


def _doubled(conv: Any, x: Tensor) -> Tensor:
    """A transposed convolution of (..., C) as (..., 4, F), sub-cells (row, column)."""
    weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return torch.unflatten(F.linear(x, weight, conv.bias.repeat(4)), -1, (4, -1))
