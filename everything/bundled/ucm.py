"""The embedded default model: from pixels to regions, each with an opinion on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.boundary_net import OPPONENT, STRIDE, BoundaryNet, BoundaryNetwork, Scales
from everything.bundled.region_features import describe
from everything.bundled.region_scorer import Opinion, Scorer
from everything.bundled.region_selection import at_best
from everything.bundled.region_tree import Floats, Regions, partition, regions


class Ucm(nn.Module):
    """The two networks behind the region tree, which are trained one after the other."""

    def __init__(self, boundary: BoundaryNetwork | None = None) -> None:
        super().__init__()
        self.boundary = boundary or BoundaryNet()
        self.scorer = Scorer()


@dataclass(frozen=True)
class RegionEmbedding:
    """A canvas (h, w) px as regions, with an opinion on each.

    features: float32 (N, F). match: float32 (N,), predicted IoU with the best segment of any
    annotator. quality: float32 (N,), the score of a region that no click asks for, see `score`.
    opinion: the scorer's. maps: float32 (1, 72, h', w'), the boundary network's features over the
    canvas.
    """

    regions: Regions
    features: NDArray[np.float32]
    match: NDArray[np.float32]
    quality: NDArray[np.float32]
    opinion: Opinion
    maps: Tensor


def understand(
    network: Ucm,
    pixels: NDArray[np.uint8],
    precision: torch.dtype | None = None,
    scales: Scales | None = None,
) -> RegionEmbedding:
    """Return what the networks know of pixels uint8 (h, w, 3) RGB; the rest as boundary_map's."""
    found, features, maps = describe_regions(network.boundary, pixels, precision, scales)
    with torch.inference_mode():
        opinion = network.scorer(torch.from_numpy(features))
    match = torch.sigmoid(opinion.quality).numpy()
    quality = score(match, at_best(found, opinion.vote.numpy()))
    return RegionEmbedding(found, features, match, quality, opinion, maps)


def score(match: NDArray[np.float32], expected: Floats) -> NDArray[np.float32]:
    """Return scores in [0, 1], float32, which rank the regions of an image and a click's answers.

    match: how well regions match what people mark anywhere, as Understood has it. expected: their
    IoU with what is meant, of regions that exclude each other
    (everything/bundled/region_selection.py). Their geometric mean, in which the latter counts
    twice: half way it ranks an image's regions as well, but a click's answers worse.
    """
    return np.cbrt(match * expected**2).astype(np.float32)


def describe_regions(
    network: BoundaryNetwork,
    pixels: NDArray[np.uint8],
    precision: torch.dtype | None = None,
    scales: Scales | None = None,
) -> tuple[Regions, NDArray[np.float32], Tensor]:
    """Return the regions of pixels uint8 (h, w, 3) RGB, their features float32 (N, F), and the
    network's float32 (1, 72, h', w')."""
    # A copy, since pixels may be read-only, which torch does not know.
    rgb = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
    boundary, maps = boundary_map(network, rgb, precision, scales)
    colours = F.conv2d(rgb, rgb.new_tensor(OPPONENT)[..., None, None])[0].permute(1, 2, 0)
    part = partition(boundary)
    found = regions(part)
    return found, describe(part, found, boundary, colours.double().numpy()), maps


def boundary_map(
    network: BoundaryNetwork,
    rgb: Tensor,
    precision: torch.dtype | None = None,
    scales: Scales | None = None,
) -> tuple[Floats, Tensor]:
    """Return the probability of a contour in every pixel, float64 (h, w), the mean over scales,
    and the first scale's features of stride 8, float32 (1, 72, h', w').

    rgb: float32 (1, 3, h, w) in [0, 1]. precision: of most of the network; None: bfloat16 where
    the processor multiplies it itself. scales: None for the network's own.
    """
    precision = precision or (torch.bfloat16 if fast_bfloat16() else torch.float32)
    reduced = precision != torch.float32
    height, width = rgb.shape[-2:]
    seen_by: list[Tensor] = []
    for factor, longest in scales or network.scales:
        scale = min(factor, longest / max(height, width))
        size = [max(1, round(side * scale / STRIDE)) * STRIDE for side in (height, width)]
        seen = F.interpolate(rgb, size, mode="bicubic", antialias=True, align_corners=False)
        with torch.inference_mode(), torch.autocast("cpu", precision, reduced):
            pyramid = network.pyramid(seen.clamp(0, 1))
            logits = network.heads(pyramid).boundary
        if not seen_by:
            maps = pyramid.x8.float()
        seen_by.append(F.interpolate(logits, (height, width), mode="bilinear", align_corners=False))
    found: Floats = torch.sigmoid(torch.cat(seen_by)).mean(0)[0].double().numpy()
    return found, maps


def fast_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 itself; elsewhere float32 is faster."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
