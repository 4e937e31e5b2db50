"""NanoSAM: SAM with a ResNet-18 encoder (NVIDIA, 2023), MobileSAM's prompt encoder and decoder.

The trained encoder is published as ONNX only, without parameter names, so it cannot be loaded here.
A checkpoint written by the official trainer (`nanosam.tools.train`), which has the encoder, can;
the decoder is then taken from MobileSAM's checkpoint.

Compared with the official code at 6536336 on the same seeded weights: pixels, embeddings and
resized masks are equal. Points differ by less than a canvas pixel: the official code scales both
axes like the longer side, here each axis has its own scale, which is where the image's pixels are.
"""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from PIL import Image
from segment_anything.modeling import Sam
from torch import Tensor, nn

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.core.geometry import Frame, Size, truncated_frame
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import CANVAS, SamModel, joined

NAMES = (
    (r"^image_encoder\.up\.", "up_1."),
    (r"^image_encoder\.position$", "pos_embedding"),
    (r"^image_encoder\.", ""),
)


class ResNetEncoder(nn.Module):
    """ResNet-18's last map, enlarged, with learned positions: (B, 3, s, s) to
    (B, 256, s / 16, s / 16)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side
        self.backbone = cast(Any, timm.create_model("resnet18", features_only=True))
        self.up = nn.Sequential(
            *_convolution(512, 256),
            *_convolution(256, 256),
            *_convolution(256, 256),
            nn.ConvTranspose2d(256, 256, 3, stride=2, padding=1, output_padding=1),
            nn.GELU(),
        )
        self.proj = nn.Sequential(*_convolution(256, 256), nn.Conv2d(256, 256, 1))
        self.position = nn.Parameter(torch.empty(1, 256, side // 16, side // 16))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        embedding: Tensor = self.proj(self.up(self.backbone(pixels)[-1])) + self.position
        return embedding


def _convolution(channels: int, to: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, to, 3, padding=1), nn.GELU()


class NanoSamModel(SamModel):
    """NanoSAM: images are resized with Pillow's default filter, masks in one step."""

    resampling = Image.Resampling.BICUBIC

    def placed(self, view: Size, side: int) -> Frame:
        """Return where a view of (h, w) px lies on a canvas of `side` px."""
        return truncated_frame(view, side)


def blueprint(side: int = CANVAS) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px."""
    with torch.device("meta"):
        encoder = ResNetEncoder(side)
    return Blueprint(joined(encoder, side), NAMES)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> NanoSamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return NanoSamModel(blueprint(**options).load(state, path), compute, decoding)
