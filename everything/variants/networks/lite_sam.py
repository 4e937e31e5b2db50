"""Lite-SAM (Fu et al., 2024): SAM with a LiteViT encoder; trainable here, without weights.

Neither code nor weights are public. According to the paper's abstract, LiteViT combines
convolutions and a transformer and has 1.16 M parameters; according to reviews, pooling at several
scales makes its attention cheap. This encoder follows that description; widths, depths, strides and
the canvas were chosen here. It keeps SAM's prompt encoder and mask decoder (4.06 M), so the total
is 5.2 M, not the paper's 4.2 M. The paper's AutoPPN is the sampler auto-ppn.
"""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import SamModel, joined

SIDE = 512  # px of the square canvas
WIDTHS, DEPTHS = (32, 64, 128), (2, 4, 4)  # at strides 4, 8 and 16
HEADS, POOLS = 4, (2, 4, 8)  # attention heads; sides of the pooled windows, cells


class ConvolutionBlock(nn.Module):
    """A depthwise 3 x 3 convolution and two pointwise ones, with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = LayerNorm2d(width)
        self.widen, self.narrow = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the input's shape, (B, C, h, w)."""
        update: Tensor = self.narrow(F.gelu(self.widen(self.norm(self.near(x)))))
        return x + update


class PooledAttention(nn.Module):
    """Attention of all cells to averages over 2 x 2, 4 x 4 and 8 x 8 cells: a third of the keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.pooled_norm = LayerNorm2d(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the update of maps (B, C, h, w), without the residual."""
        x = self.norm(x)
        pooled = [F.avg_pool2d(x, n, ceil_mode=True).flatten(2) for n in POOLS]
        seen = self.pooled_norm(torch.cat(pooled, 2).transpose(1, 2))
        q = self.query(x.flatten(2).transpose(1, 2))
        k, v = self.key_value(seen).chunk(2, -1)
        heads = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        read = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        gained: Tensor = self.out(read)
        return gained.transpose(1, 2).reshape(x.shape)


class TransformerBlock(nn.Module):
    """Pooled attention, then a convolution block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention, self.local = PooledAttention(width), ConvolutionBlock(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the input's shape, (B, C, h, w)."""
        mixed: Tensor = self.local(x + self.attention(x))
        return mixed


class LiteVit(nn.Module):
    """Convolutions at strides 4 and 8, a transformer at 16: (B, 3, s, s) to
    (B, 256, s / 16, s / 16), s a multiple of 16."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side
        first, second, third = WIDTHS
        self.stem = nn.Sequential(
            nn.Conv2d(3, first // 2, 3, 2, 1),
            LayerNorm2d(first // 2),
            nn.GELU(),
            nn.Conv2d(first // 2, first, 3, 2, 1),
            LayerNorm2d(first),
        )
        self.stage4 = _blocks(ConvolutionBlock, 0)
        self.down8 = _down(first, second)
        self.stage8 = _blocks(ConvolutionBlock, 1)
        self.down16 = _down(second, third)
        self.stage16 = _blocks(TransformerBlock, 2)
        self.neck = nn.Sequential(
            nn.Conv2d(third, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, groups=256, bias=False),
            nn.Conv2d(256, 256, 1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        x = self.stage4(self.stem(pixels))
        x = self.stage8(self.down8(x))
        x = self.stage16(self.down16(x))
        embedding: Tensor = self.neck(x)
        return embedding


def _blocks(kind: type[nn.Module], stage: int) -> nn.Sequential:
    return nn.Sequential(*(kind(WIDTHS[stage]) for _ in range(DEPTHS[stage])))


def _down(width: int, to: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, to, 3, 2, 1), LayerNorm2d(to))


def blueprint(side: int = SIDE) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px."""
    with torch.device("meta"):
        encoder = LiteVit(side)
    return Blueprint(joined(encoder, side))


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> SamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return SamModel(blueprint(**options).load(state, path), compute, decoding)
