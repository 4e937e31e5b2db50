"""A network of segment_anything's class as transformers' SamModel, with the same values."""

from __future__ import annotations

import re
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT, Sam
from torch import Tensor, nn

from everything.variants.checkpoints.reader import State

_TABLE = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.blocks\.", ".layers."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.point_embeddings\.", ".point_embed."),
    (
        r"\.pe_layer\.positional_encoding_gaussian_matrix$",
        ".shared_embedding.positional_embedding",
    ),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
)
_SHARED = "shared_image_embedding.positional_embedding"


class _Encoder(nn.Module):
    """An encoder of segment_anything's kind where transformers expects its own."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor, **_: Any) -> tuple[Tensor]:
        return (self.encoder(pixels),)


def convert(sam: Sam) -> tuple[Any, Any]:
    """Return a SamModel and a SamImageProcessor that do what `sam` does, sharing its tensors.

    A plain ViT becomes transformers' own, any other encoder is called as it is.
    """
    from transformers import SamConfig, SamImageProcessor, SamModel

    is_vit = isinstance(sam.image_encoder, ImageEncoderViT)
    vision = _vit(sam.image_encoder) if is_vit else _no_vit(sam.image_encoder.img_size)
    decoder, side = sam.mask_decoder, sam.prompt_encoder.input_image_size[0]
    width = decoder.transformer_dim
    config = SamConfig(
        vision_config=vision | {"output_channels": width, "num_pos_feats": width // 2},
        prompt_encoder_config={"hidden_size": width, "image_size": side},
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": decoder.transformer.mlp_dim,
            "num_attention_heads": decoder.transformer.num_heads,
            "iou_head_hidden_dim": decoder.iou_prediction_head.layers[0].out_features,
        },
    )
    model: Any
    with torch.device("meta"):
        model = SamModel(config)
    if not is_vit:
        model.vision_encoder = _Encoder(sam.image_encoder)
    state = to_transformers(sam.state_dict())
    if not is_vit:
        state = {n: t for n, t in state.items() if not n.startswith("vision_encoder.")}
    model.load_state_dict(state, assign=True, strict=is_vit)
    square = {"height": side, "width": side}
    processor = SamImageProcessor(size={"longest_edge": side}, pad_size=square)
    return model.eval().requires_grad_(False), processor


def _vit(encoder: Any) -> dict[str, Any]:
    """A plain ViT's shape in the words of SamVisionConfig."""
    blocks = encoder.blocks
    windows = [block.window_size for block in blocks]
    return {
        "hidden_size": encoder.patch_embed.proj.out_channels,
        "image_size": encoder.img_size,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "mlp_dim": blocks[0].mlp.lin1.out_features,
        "window_size": max(windows),
        "global_attn_indexes": [i for i, window in enumerate(windows) if window == 0],
    }


def _no_vit(side: int) -> dict[str, Any]:
    return {"image_size": side, "num_hidden_layers": 0, "global_attn_indexes": []}


def to_transformers(state: State) -> State:
    """Return SAM's tensors under transformers' names; buffers of pixel values are left out."""
    renamed = {}
    for official, tensor in state.items():
        if official in ("pixel_mean", "pixel_std"):
            continue
        name = official
        for pattern, replacement in _TABLE:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    renamed[_SHARED] = renamed["prompt_encoder.shared_embedding.positional_embedding"]
    return renamed
