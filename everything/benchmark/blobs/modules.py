"""The modules of a mask decoder and its prompt encoder: SAM's, EfficientSAM's or SAM 2's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class AttentionModules:
    """The four linear layers of an attention."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    out: nn.Linear

    @classmethod
    def of(cls, attention: Any) -> AttentionModules:
        """Return those of a module of segment_anything or transformers."""
        a = attention
        return cls(a.q_proj, a.k_proj, a.v_proj, a.o_proj if hasattr(a, "o_proj") else a.out_proj)


@dataclass(frozen=True)
class LayerModules:
    """One layer of the two-way transformer; after_image: the norm after the image's attention."""

    to_itself: AttentionModules
    to_image: AttentionModules
    to_tokens: AttentionModules
    mlp_out: nn.Linear
    after_image: nn.LayerNorm

    @classmethod
    def of(cls, layer: Any) -> LayerModules:
        """Return those of a layer of segment_anything or transformers."""
        mlp = layer.mlp
        return cls(
            AttentionModules.of(layer.self_attn),
            AttentionModules.of(layer.cross_attn_token_to_image),
            AttentionModules.of(layer.cross_attn_image_to_token),
            mlp.proj_out if hasattr(mlp, "proj_out") else mlp.lin2,
            layer.layer_norm4 if hasattr(layer, "layer_norm4") else layer.norm4,
        )


@dataclass(frozen=True)
class DecoderModules:
    """What `decoder.write` changes.

    waves: matrices of the positional encoding (2, C / 2), which are equal. cells: along each side
    of the embedding. tokens: of each kind, (C,), by name. unused: layers that should add nothing.
    """

    waves: tuple[Tensor, ...]
    cells: int
    tokens: dict[str, Tensor]
    layers: tuple[LayerModules, ...]
    final: AttentionModules
    upscaling: tuple[nn.ConvTranspose2d, nn.ConvTranspose2d]
    hypernetworks: tuple[Sequence[nn.Linear], ...]
    iou_head: Sequence[nn.Linear]
    unused: tuple[Any, ...]

    @classmethod
    def of(cls, network: Any) -> DecoderModules:
        """Return those of a network of the class `Sam` or of transformers' SAM 2."""
        prompts, decoder = network.prompt_encoder, network.mask_decoder
        transformer = decoder.transformer
        return cls(
            _waves(network),
            prompts.image_embedding_size[0],
            _output_tokens(decoder) | _prompt_tokens(prompts),
            tuple(LayerModules.of(layer) for layer in transformer.layers),
            AttentionModules.of(transformer.final_attn_token_to_image),
            _upscaling(decoder),
            tuple(linear_layers(mlp) for mlp in decoder.output_hypernetworks_mlps),
            linear_layers(decoder.iou_prediction_head),
            _unused(network),
        )


def linear_layers(mlp: Any) -> list[nn.Linear]:
    """The linear layers of a multilayer perceptron, from the first to the last."""
    if isinstance(mlp, nn.Sequential):
        return [layer for layer in mlp if isinstance(layer, nn.Linear)]
    if hasattr(mlp, "proj_in"):
        return [mlp.proj_in, *mlp.layers, mlp.proj_out]
    return list(mlp.layers)


def _waves(network: Any) -> tuple[Tensor, ...]:
    prompts = network.prompt_encoder
    if hasattr(prompts, "pe_layer"):
        return (prompts.pe_layer.positional_encoding_gaussian_matrix,)
    both = prompts.shared_embedding, network.shared_image_embedding
    return tuple(embedding.positional_embedding for embedding in both)


def _output_tokens(decoder: Any) -> dict[str, Tensor]:
    found = {f"mask{i}": row for i, row in enumerate(decoder.mask_tokens.weight)}
    names = {"iou": "iou_token", "present": "obj_score_token", "hq": "hf_token"}
    present = {kind: name for kind, name in names.items() if hasattr(decoder, name)}
    return found | {kind: getattr(decoder, name).weight[0] for kind, name in present.items()}


def _prompt_tokens(prompts: Any) -> dict[str, Tensor]:
    if hasattr(prompts, "invalid_points"):  # EfficientSAM's
        return {
            "inside": prompts.point_embeddings.weight[0],
            "top left": prompts.bbox_top_left_embeddings.weight[0],
            "bottom right": prompts.bbox_bottom_right_embeddings.weight[0],
            "padding": prompts.invalid_points.weight[0],
        }
    if hasattr(prompts, "point_embed"):  # SAM 2's
        rows = list(prompts.point_embed.weight)
    else:
        rows = [embedding.weight[0] for embedding in prompts.point_embeddings]
    kinds = "outside", "inside", "top left", "bottom right"
    found = dict(zip(kinds, rows, strict=True))
    return found | {"padding": prompts.not_a_point_embed.weight[0]}


def _upscaling(decoder: Any) -> tuple[nn.ConvTranspose2d, nn.ConvTranspose2d]:
    if hasattr(decoder, "upscale_conv1"):
        return decoder.upscale_conv1, decoder.upscale_conv2
    return decoder.output_upscaling[0], decoder.output_upscaling[3]


def _unused(network: Any) -> tuple[Any, ...]:
    """What would add to masks: the embedding of no mask, SAM 2's fine features, HQ-SAM's token."""
    decoder, found = network.mask_decoder, []
    if hasattr(network.prompt_encoder, "no_mask_embed"):
        found.append(network.prompt_encoder.no_mask_embed)
    found += [getattr(decoder, name) for name in ("conv_s0", "conv_s1") if hasattr(decoder, name)]
    if hasattr(decoder, "hf_mlp"):
        found.append(linear_layers(decoder.hf_mlp)[-1])
    return tuple(found)
