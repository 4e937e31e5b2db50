"""MobileSAM and TinySAM: SAM behind a Tiny-ViT encoder.

MobileSAM (Zhang et al., 2023) distilled SAM's encoder into a 5 M TinyViT (Wu et al., 2022) whose
last stage keeps the stride of 16; TinySAM (Shu et al., 2023) trained the same network further.
"""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import CANVAS, SamModel, joined, neck

NAMES = (
    (r"^image_encoder\.body\.", "image_encoder."),
    (r"\.patch_embed\.conv1\.conv\.", ".patch_embed.seq.0.c."),
    (r"\.patch_embed\.conv1\.bn\.", ".patch_embed.seq.0.bn."),
    (r"\.patch_embed\.conv2\.conv\.", ".patch_embed.seq.2.c."),
    (r"\.patch_embed\.conv2\.bn\.", ".patch_embed.seq.2.bn."),
    # timm downsamples at the start of a stage, the checkpoint at the end of the one before.
    (r"\.stages\.1\.downsample\.", ".layers.0.downsample."),
    (r"\.stages\.2\.downsample\.", ".layers.1.downsample."),
    (r"\.stages\.3\.downsample\.", ".layers.2.downsample."),
    (r"\.stages\.", ".layers."),
    (r"(\.conv\d|\.local_conv)\.conv\.", r"\1.c."),
    # The classifier of the pre-training is in the checkpoint, and is never run.
    (r"\.head\.norm\.", ".norm_head."),
    (r"\.head\.fc\.", ".head."),
)


class TinyVitEncoder(nn.Module):
    """TinyViT-5M with a stride of 16 and SAM's neck: (B, 3, s, s) to (B, 256, s / 16, s / 16)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side
        self.body = cast(Any, timm.create_model("tiny_vit_5m_224", num_classes=1000))
        self.body.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = neck(320)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        embedding: Tensor = self.neck(self.body.forward_features(pixels))
        return embedding


def blueprint(side: int = CANVAS) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px."""
    with torch.device("meta"):
        encoder = TinyVitEncoder(side)
    return Blueprint(joined(encoder, side), NAMES)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> SamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return SamModel(blueprint(**options).load(state, path), compute, decoding)
