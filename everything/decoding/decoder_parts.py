"""The parts of a mask decoder, read from a module by its structure, not by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn
from torch.nn import functional as F

Network = Callable[..., Tensor]


class UnlikeSAM(TypeError):
    """A module is not the two-way mask decoder that the shared-image algebra is written for."""


@dataclass(frozen=True)
class CrossAttention:
    """Attention between tokens and image: softmax((x q)(y k)ᵀ / √d)(y v) out, over `heads`."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    out: nn.Linear
    heads: int


@dataclass(frozen=True)
class Layer:
    """One layer of the two-way transformer.

    The tokens attend to themselves (norm1), to the image (norm2) and pass the MLP (norm3); then
    the image attends to the tokens (norm4). `replaces`: the self-attention's output takes the
    place of the tokens, without positions, as in SAM's first layer.
    """

    self_attention: Network
    norm1: Network
    to_image: CrossAttention
    norm2: Network
    mlp: Network
    norm3: Network
    to_tokens: CrossAttention
    norm4: nn.LayerNorm
    replaces: bool


@dataclass(frozen=True)
class ChannelNorm:
    """A norm of a feature map, with a weight and a bias for each channel.

    over_map: mean and variance are of the whole map, as in EfficientSAM; otherwise of the channels
    at each of its places, as in SAM.
    """

    weight: Tensor
    bias: Tensor
    eps: float
    over_map: bool = False


@dataclass(frozen=True)
class Upscaling:
    """Feature map to mask features: x2, norm, GELU, x2, GELU. `gelu` is PyTorch's name of its
    approximation, "none" for the exact one."""

    first: nn.ConvTranspose2d
    norm: ChannelNorm
    second: nn.ConvTranspose2d
    gelu: str


@dataclass(frozen=True)
class Stacked:
    """M hypernetworks of SAM's kind as one, for accelerators, where each layer is a launch.

    Attributes:
        weights: Of each layer (M, C, F).
        biases: Of each layer (M, 1, F).
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @classmethod
    def of(cls, networks: Sequence[Any]) -> Self | None:
        """Return networks as one; None if they are not SAM's multilayer perceptrons."""
        if not all(type(one) is MLP and not one.sigmoid_output for one in networks):
            return None
        layers = list(zip(*(one.layers for one in networks), strict=True))
        weights = (torch.stack([one.weight.detach().T for one in each]) for each in layers)
        biases = (torch.stack([one.bias.detach()[None] for one in each]) for each in layers)
        return cls(tuple(weights), tuple(biases))

    def __call__(self, tokens: Tensor, slots: range) -> Tensor:
        """Return what networks number `slots` make of tokens (P, len(slots), C), one for each:
        (P, len(slots), G)."""
        some = slice(slots.start, slots.stop)
        x, last = tokens.transpose(0, 1), len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias[some], x, weight[some])
            x = x if number == last else F.relu(x)
        return x.transpose(0, 1)


@dataclass(frozen=True)
class Parts:
    """A two-way mask decoder of depth 2.

    tokens: the learned tokens (T', C) in front of the prompt's own. iou_at and masks_at: rows
    of the token that predicts IoU and of the first mask token. hypernetworks: one for each mask
    token; stacked: the same as one, on accelerators, if they are SAM's. single_by_looks: how far
    the cut is moved, in logits, and the stability that the single answer must have once drawn, lest
    the best of the others takes its place.
    """

    tokens: Tensor
    iou_at: int
    masks_at: int
    first: Layer
    second: Layer
    final: CrossAttention
    final_norm: Network
    upscaling: Upscaling
    hypernetworks: tuple[Network, ...]
    iou_head: Network
    single_by_looks: tuple[float, float] | None = None
    stacked: Stacked | None = None


def read_sam(mask_decoder: nn.Module) -> Parts:
    """Return the parts of a mask decoder with segment_anything's structure (`MaskDecoder`).

    Any width, heads and number of mask tokens. Raises UnlikeSAM, saying what differs.
    """
    m: Any = mask_decoder
    try:
        layers = [_sam_layer(layer) for layer in m.transformer.layers]
        if len(layers) != 2:
            raise UnlikeSAM(f"the transformer has {len(layers)} layers, not 2")
        return Parts(
            tokens=torch.cat([m.iou_token.weight, m.mask_tokens.weight]).detach(),
            iou_at=0,
            masks_at=1,
            first=layers[0],
            second=layers[1],
            final=_sam_attention(m.transformer.final_attn_token_to_image),
            final_norm=m.transformer.norm_final_attn,
            upscaling=_sam_upscaling(list(m.output_upscaling)),
            hypernetworks=tuple(m.output_hypernetworks_mlps),
            iou_head=m.iou_prediction_head,
        )
    except AttributeError as error:
        raise UnlikeSAM(f"{type(mask_decoder).__name__}: {error}") from error


def _sam_attention(attention: Any) -> CrossAttention:
    a = attention
    return CrossAttention(a.q_proj, a.k_proj, a.v_proj, a.out_proj, int(a.num_heads))


def _sam_layer(layer: Any) -> Layer:
    return Layer(
        self_attention=layer.self_attn,
        norm1=layer.norm1,
        to_image=_sam_attention(layer.cross_attn_token_to_image),
        norm2=layer.norm2,
        mlp=layer.mlp,
        norm3=layer.norm3,
        to_tokens=_sam_attention(layer.cross_attn_image_to_token),
        norm4=layer.norm4,
        replaces=bool(layer.skip_first_layer_pe),
    )


def _sam_upscaling(stages: list[Any]) -> Upscaling:
    kinds = [type(stage).__name__ for stage in stages]
    norms = "LayerNorm2d", "GroupNorm"
    if kinds not in [
        ["ConvTranspose2d", norm, "GELU", "ConvTranspose2d", "GELU"] for norm in norms
    ]:
        raise UnlikeSAM(f"the upscaling is {', '.join(kinds)}")
    first, norm, gelu, second, other = stages
    if gelu.approximate != other.approximate:
        raise UnlikeSAM("the two GELUs of the upscaling differ")
    if getattr(norm, "num_groups", 1) != 1:
        raise UnlikeSAM(f"the upscaling's norm has {norm.num_groups} groups")
    over_map = isinstance(norm, nn.GroupNorm)
    channel_norm = ChannelNorm(norm.weight.detach(), norm.bias.detach(), norm.eps, over_map)
    return Upscaling(first, channel_norm, second, gelu.approximate)
