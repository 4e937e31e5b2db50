"""EfficientViT-SAM: SAM behind an EfficientViT encoder (Cai et al., 2023; Zhang et al., 2024).

The blocks are timm's; how they are stacked is EfficientViT-L's and -XL's, and the neck that adds
the last three maps is EfficientViT-SAM's own (its section 3.1).

Compared with the official network at de7d773 on the same seeded weights: embeddings of L0 and XL0
differ by 3e-6 and 4e-6, decoded masks and scores by 0, pixels by 2e-7.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from timm.layers import GELUTanh
from timm.models.efficientvit_mit import (
    ConvBlock,
    ConvNormAct,
    FusedMBConv,
    LiteMLA,
    MBConv,
    ResidualBlock,
)
from torch import Tensor, nn
from torch.nn import functional as F

from everything.config import Compute, Decoding
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.networks.sam import CANVAS, SamModel, joined

NORM_EPS = 1e-6  # of every norm, the decoder's too: the authors set it after building the network
ATTENTION_EPS = 1e-15  # in the denominator of the linear attention
HEAD_WIDTH = 32
FUSED, INVERTED, ATTENTION = "fused", "inverted", "attention"

NAMES = (
    (r"\.stages\.(\d+)\.(\d+)\.", r".backbone.stages.\1.op_list.\2."),
    (r"\.neck\.inputs\.(\d+)\.", r".neck.input_ops.\1.op_list.0."),
    (r"\.neck\.blocks\.(\d+)\.", r".neck.middle.op_list.\1."),
    (r"\.neck\.output\.", ".neck.output_ops.0.op_list.0.conv."),
    (r"\.neck\.norm\.", ".norm."),
)

_norm: Any = partial(nn.BatchNorm2d, eps=NORM_EPS)


def stem(width: int, depth: int) -> nn.Sequential:
    """Return the stem: (B, 3, h, w) to (B, width, h / 2, w / 2)."""
    residual = [
        _residual(ConvBlock(width, width, norm_layer=_norm, act_layer=(GELUTanh, None)))
        for _ in range(depth)
    ]
    first = ConvNormAct(3, width, 3, stride=2, norm_layer=_norm, act_layer=GELUTanh)
    return nn.Sequential(first, *residual)


def stage(
    kind: str, widths: tuple[int, int], depth: int, expand: int, kernel: int
) -> nn.Sequential:
    """Return a stage: (B, widths[0], h, w) to (B, widths[1], h / 2, w / 2).

    Its strided block expands the width four times as much as the `depth` blocks after it. kernel:
    of the aggregation that gives the attention its second scale.
    """
    narrow, width = widths
    convolution = _fused if kind == FUSED else _inverted
    strided = ResidualBlock(convolution(narrow, width, 4 * expand, stride=2), None)
    blocks = (
        _Attention(width, expand, kernel)
        if kind == ATTENTION
        else _residual(convolution(width, width, expand))
        for _ in range(depth)
    )
    return nn.Sequential(strided, *blocks)


class _Attention(nn.Sequential):
    """Multi-scale linear attention, then an inverted bottleneck, each with a shortcut."""

    def __init__(self, width: int, expand: int, kernel: int) -> None:
        super().__init__()
        attention = LiteMLA(
            width,
            width,
            dim=HEAD_WIDTH,
            norm_layer=(None, _norm),
            scales=(kernel,),
            eps=ATTENTION_EPS,
        )
        self.context_module = _residual(attention)
        self.local_module = _residual(_inverted(width, width, expand))


def _fused(narrow: int, width: int, expand: int, stride: int = 1) -> nn.Module:
    return FusedMBConv(
        narrow,
        width,
        stride=stride,
        expand_ratio=expand,
        norm_layer=_norm,
        act_layer=(GELUTanh, None),
    )


def _inverted(narrow: int, width: int, expand: int, stride: int = 1) -> nn.Module:
    # Only the last of its three convolutions is normalised; the others have a bias instead.
    return MBConv(
        narrow,
        width,
        stride=stride,
        expand_ratio=expand,
        use_bias=(True, True, False),
        norm_layer=(None, None, _norm),
        act_layer=(GELUTanh, GELUTanh, None),
    )


def _residual(block: nn.Module) -> nn.Module:
    return ResidualBlock(block, nn.Identity())


class Neck(nn.Module):
    """The last three maps, brought to one width and size, added, refined: to (B, 256, g, g)."""

    def __init__(self, widths: tuple[int, ...], depth: int, expand: int, grid: int) -> None:
        super().__init__()
        self.size = (grid, grid)
        self.inputs = nn.ModuleList(
            ConvNormAct(width, 256, 1, norm_layer=_norm, act_layer=None) for width in widths
        )
        self.blocks = nn.Sequential(*(_residual(_fused(256, 256, expand)) for _ in range(depth)))
        self.output = nn.Conv2d(256, 256, 1)
        self.norm = LayerNorm2d(256, eps=NORM_EPS)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the embedding of the maps, deepest first."""
        same = [self._resized(project(x)) for project, x in zip(self.inputs, maps, strict=True)]
        embedding: Tensor = self.norm(self.output(self.blocks(torch.stack(same).sum(0))))
        return embedding

    def _resized(self, x: Tensor) -> Tensor:
        return x if x.shape[2:] == self.size else F.interpolate(x, self.size, mode="bicubic")


class EfficientVitEncoder(nn.Module):
    """EfficientViT and the neck: (B, 3, side, side) to (B, 256, grid, grid)."""

    def __init__(
        self,
        side: int,
        grid: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        kinds: tuple[str, ...],
        kernel: int,
        neck_depth: int,
        neck_expand: int,
    ) -> None:
        super().__init__()
        self.img_size = side
        steps = zip(kinds, pairwise(widths), depths[1:], strict=True)
        last = len(kinds) - 1
        self.stages = nn.ModuleList(
            [
                stem(widths[0], depths[0]),
                *(
                    stage(kind, pair, depth, 6 if i == last else 4, kernel)
                    for i, (kind, pair, depth) in enumerate(steps)
                ),
            ]
        )
        self.neck = Neck(widths[:-4:-1], neck_depth, neck_expand, grid)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding."""
        maps = list(self._maps(pixels))
        embedding: Tensor = self.neck(maps[:-4:-1])
        return embedding

    def _maps(self, x: Tensor) -> Iterator[Tensor]:
        for part in self.stages:
            x = part(x)
            yield x


def blueprint(*, side: int = CANVAS, shrink: int = 1, **shape: Any) -> Blueprint[Sam]:
    """Return the network without values, for a canvas of `side` px that the encoder sees `shrink`
    times smaller; `shape` as of EfficientVitEncoder."""
    with torch.device("meta"):
        encoder = EfficientVitEncoder(side // shrink, side // 16, **shape)
    sam = joined(encoder, side)
    for module in sam.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = NORM_EPS
    return Blueprint(sam, NAMES)


def build(
    state: State,
    path: str,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
    **options: Any,
) -> SamModel:
    """Build the model: see `sam.build`. The options are those of `blueprint`."""
    return SamModel(blueprint(**options).load(state, path), compute, decoding)
