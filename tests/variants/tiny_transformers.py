"""Tiny networks of every class that transformers has for mask generation, saved as folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

DECODER = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def _sam(kind: str, **more: Any) -> tuple[Any, Any]:
    import transformers

    vision = getattr(transformers, f"{kind}VisionConfig")(
        hidden_size=24,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_dim=32,
        image_size=64,
        patch_size=8,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=16,
    )
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision.to_dict(),
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8},
        mask_decoder_config={**DECODER, **more},
    )
    images = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
    )
    processor = getattr(transformers, f"{kind}Processor")(images)
    return getattr(transformers, f"{kind}Model")(config), processor


def sam() -> tuple[Any, Any]:
    return _sam("Sam")


def sam_hq() -> tuple[Any, Any]:
    return _sam("SamHQ", vit_dim=24)


def sam2() -> tuple[Any, Any]:
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    hiera = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[128, 128],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[7, 7],
    )
    vision = Sam2VisionConfig(
        backbone_config=hiera,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )
    prompts = {"hidden_size": 32, "image_size": 128}
    config = Sam2Config(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER
    )
    return Sam2Model(config), _processor_of_sam2()


def edgetam() -> tuple[Any, Any]:
    from transformers import EdgeTamConfig, EdgeTamModel, EdgeTamVisionConfig, TimmWrapperConfig

    given = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    vision = EdgeTamVisionConfig(
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
        backbone_config=TimmWrapperConfig(architecture="repvit_m1", model_args=given),
    )
    prompts = {"hidden_size": 32, "image_size": 128}
    config = EdgeTamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER
    )
    return EdgeTamModel(config), _processor_of_sam2()


def sam3_tracker() -> tuple[Any, Any]:
    from transformers import (
        Sam3ImageProcessor,
        Sam3TrackerConfig,
        Sam3TrackerModel,
        Sam3TrackerProcessor,
    )

    config = Sam3TrackerConfig(
        vision_config=sam3_vision(),
        prompt_encoder_config={"hidden_size": 32, "image_size": 112, "patch_size": 14},
        mask_decoder_config=DECODER,
    )
    images = Sam3ImageProcessor(size={"height": 112, "width": 112})
    return Sam3TrackerModel(config), Sam3TrackerProcessor(images, target_size=112)


def sam3_vision(side: int = 112) -> dict[str, Any]:
    """The settings of a small image encoder of SAM 3 for images of `side` px."""
    vit = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    }
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": vit,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[n, n] for n in (side * 4 // 14, side * 2 // 14, side // 14)],
        "scale_factors": [4.0, 2.0, 1.0],
    }


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "SamModel": sam,
    "SamHQModel": sam_hq,
    "Sam2Model": sam2,
    "EdgeTamModel": edgetam,
    "Sam3TrackerModel": sam3_tracker,
}


def save(kind: str, folder: Path) -> tuple[Any, Any]:
    """Save a network with seeded values and its processor; return both."""
    network, processor = KINDS[kind]()
    seeded(network)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network.eval(), processor


def seeded(network: nn.Module) -> None:
    """Fill a network in place with values that keep activations in range."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim < 2:
                value.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise)
            elif "positional" in name or "pos_embed" in name:
                value.copy_(noise)
            else:
                value.copy_(noise / value[0].numel() ** 0.5)


def _processor_of_sam2() -> Any:
    from transformers import Sam2ImageProcessor, Sam2Processor

    images = Sam2ImageProcessor(size={"height": 128, "width": 128})
    return Sam2Processor(images, target_size=128)
