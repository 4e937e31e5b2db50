"""EfficientTAM for still images (Xiong et al., 2024): SAM 2's decoder on a plain ViT.

The image encoder is SAM's with attention in windows, without relative positions; its decoder is
SAM 2's without fine features, transformers' `Sam2Model` here; the rest is as in sam2.py.

Compared with the official code at abcd061 on the same seeded weights, for clicks and boxes, one and
several masks asked for: embeddings are equal, logits differ by at most 6e-6, scores by 3e-7; names
and shapes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.core.geometry import View
from everything.decoding import PreparedImage
from everything.errors import ConfigError
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks import sam2
from everything.variants.networks.attention import fuse
from everything.variants.networks.efficientsam import PATCH, TRAINED_GRID, WIDTH, stretched
from everything.variants.networks.sam2 import CANVAS, UNUSED, Sam2StillModel

NAMES = (
    (r"^vision_encoder\.neck\.0\.", "image_encoder.neck.convs.0.conv_1x1."),
    (r"^vision_encoder\.neck\.1\.", "image_encoder.neck.convs.0.norm_0."),
    (r"^vision_encoder\.neck\.2\.", "image_encoder.neck.convs.0.conv_3x3."),
    (r"^vision_encoder\.neck\.3\.", "image_encoder.neck.convs.0.norm_1."),
    (r"^vision_encoder\.", "image_encoder.trunk."),
    (r"\.mlp\.lin1\.", ".mlp.layers.0."),
    (r"\.mlp\.lin2\.", ".mlp.layers.1."),
    *sam2.NAMES,
)


class WindowedViT(ImageEncoderViT):  # type: ignore[misc]  # segment_anything has no types
    """SAM's ViT and neck, with positions that were trained at 224 px: pixels (B, 3, s, s) to an
    embedding (B, 256, s / 16, s / 16).

    Args:
        side: Of its input, px.
        embed_dim: Width.
        heads: Of each attention.
        depth: Number of blocks.
        global_blocks: Those whose attention has no window.
    """

    def __init__(
        self, side: int, embed_dim: int, heads: int, depth: int, global_blocks: tuple[int, ...]
    ) -> None:
        super().__init__(
            img_size=side,
            patch_size=PATCH,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=heads,
            out_chans=WIDTH,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_abs_pos=False,
            window_size=14,
            global_attn_indexes=global_blocks,
        )
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + TRAINED_GRID**2, embed_dim))
        fuse(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        tokens = self.patch_embed(pixels)
        tokens = tokens + stretched(self.pos_embed, tokens.shape[1]).permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens = block(tokens)
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embedding


class EfficientTamModel(Sam2StillModel):
    """SAM 2's network with an encoder that returns the embedding alone."""

    def encode_batch(self, views: Sequence[View]) -> list[PreparedImage]:
        """Return the decoder's image side of each view, with one run of the image encoder."""
        pixels = torch.cat([self.pixels(view) for view in views])
        found = self.network.vision_encoder(pixels)
        found = found + self.network.no_memory_embedding.view(1, -1, 1, 1)
        return [self._prepared(embedding, None) for embedding in found.split(1)]


def blueprint(
    *,
    embed_dim: int,
    heads: int,
    depth: int = 12,
    global_blocks: tuple[int, ...] = (2, 5, 8, 11),
    side: int = CANVAS,
) -> Blueprint[nn.Module]:
    """Return the network without values; the options are those of `WindowedViT`.

    Raises ConfigError if transformers is not installed.
    """
    try:
        from transformers import Sam2Config, Sam2Model
    except ImportError as error:
        raise ConfigError(
            "EfficientTAM needs the package transformers: pip install transformers"
        ) from error
    with torch.device("meta"):
        network = cast(Any, Sam2Model(Sam2Config(prompt_encoder_config={"image_size": side})))
        network.vision_encoder = WindowedViT(side, embed_dim, heads, depth, global_blocks)
        del network.mask_decoder.conv_s0, network.mask_decoder.conv_s1
    return Blueprint(network, NAMES, UNUSED)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> EfficientTamModel:
    """Build the model: see `sam2.build`. The options are those of `blueprint`."""
    return EfficientTamModel(blueprint(**options).load(state, path), compute, decoding)
