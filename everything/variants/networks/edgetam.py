"""EdgeTAM for still images (Zhou et al., 2025): SAM 2 behind a RepViT-M1 and a feature pyramid.

The network is transformers' `EdgeTamModel`, whose backbone is timm's; the rest is as in sam2.py.

Compared with the official code at 9cc44bf on the same seeded weights, for clicks, one and several
masks asked for: embeddings are equal, logits differ by at most 5e-6, scores by 2e-7; names and
shapes are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.errors import ConfigError
from everything.variants.checkpoints.key_mapping import Blueprint, Dialect
from everything.variants.checkpoints.reader import State
from everything.variants.networks import sam2
from everything.variants.networks.sam2 import CANVAS, Sam2StillModel

UNUSED = (*sam2.UNUSED, "spatial_perceiver.")
# As transformers saves it: its own names, with the memory's.
HUGGING_FACE = Dialect(sam2.HUGGING_FACE.names, (*sam2.HUGGING_FACE.unused, "spatial_perceiver."))
NAMES = (
    (r"^vision_encoder\.backbone\.timm_model\.", "image_encoder.trunk.body."),
    *sam2.NAMES,
)


def blueprint(side: int = CANVAS) -> Blueprint[nn.Module]:
    """Return the network without values, for a canvas of `side` px.

    Raises ConfigError if transformers is not installed.
    """
    try:
        from transformers import (
            EdgeTamConfig,
            EdgeTamModel,
            EdgeTamPromptEncoderConfig,
            EdgeTamVisionConfig,
            TimmWrapperConfig,
        )
    except ImportError as error:
        raise ConfigError(
            "EdgeTAM needs the package transformers: pip install transformers"
        ) from error
    backbone = TimmWrapperConfig(
        architecture="repvit_m1",
        do_pooling=False,
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_feature_sizes=[[side // step, side // step] for step in (4, 8, 16)],
    )
    prompts = EdgeTamPromptEncoderConfig(image_size=side)
    config = EdgeTamConfig(vision_config=vision, prompt_encoder_config=prompts)
    with torch.device("meta"):
        return Blueprint(EdgeTamModel(config), NAMES, UNUSED, (HUGGING_FACE,))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> Sam2StillModel:
    """Build the model: see `sam2.build`. The options are those of `blueprint`."""
    return Sam2StillModel(blueprint(**options).load(state, path), compute, decoding)
