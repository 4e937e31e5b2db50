"""The bundled default model: from pixels to regions with scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.boundary_net import OPPONENT, STRIDE, BoundaryNet, BoundaryNetwork, Scales
from everything.bundled.region_features import describe
from everything.bundled.region_scorer import RegionScores, Scorer
from everything.bundled.region_selection import at_best
from everything.bundled.region_tree import Floats, Regions, partition, regions
from everything.core.device import fetched, sent


class Ucm(nn.Module):
    """The two networks behind the region tree, which are trained one after the other."""

    def __init__(self, boundary: BoundaryNetwork | None = None) -> None:
        super().__init__()
        self.boundary = boundary or BoundaryNet()
        self.scorer = Scorer()


@dataclass(frozen=True)
class RegionEmbedding:
    """A canvas (h, w) px as regions with scores.

    features: float32 (N, F). match: float32 (N,), predicted IoU with the best segment of any
    annotator. quality: float32 (N,), the score of a region that no click asks for, see `score`.
    region_scores: the scorer's. maps: see `Contours`. All but the maps is on the CPU.
    """

    regions: Regions
    features: NDArray[np.float32]
    match: NDArray[np.float32]
    quality: NDArray[np.float32]
    region_scores: RegionScores
    maps: Tensor


@dataclass(frozen=True)
class Contours:
    """What a boundary network finds in a canvas (h, w) px.

    boundary: float64 (h, w), the strength of a contour in every pixel, in [0, 1]. colours: float64
    (h, w, 3), opponent colours in about [-1, 1]. maps: float32 (1, 72, h', w') on the network's
    device, its features over the canvas.
    """

    boundary: Floats
    colours: Floats
    maps: Tensor


def find_contours(
    network: BoundaryNetwork,
    pixels: NDArray[np.uint8],
    precision: torch.dtype | None = None,
    scales: Scales | None = None,
) -> Contours:
    """Return the contours of pixels uint8 (h, w, 3) RGB; the rest as of `boundary_map`."""
    # A copy, since pixels may be read-only, which torch does not know.
    rgb = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
    boundary, maps = boundary_map(network, rgb, precision, scales)
    colours = F.conv2d(rgb, rgb.new_tensor(OPPONENT)[..., None, None])[0].permute(1, 2, 0)
    return Contours(boundary, colours.double().numpy(), maps)


def describe_regions(contours: Contours) -> tuple[Regions, NDArray[np.float32]]:
    """Return the regions between contours, and their features float32 (N, F).

    No network is asked, so that any thread can do it without a change in its result.
    """
    part = partition(contours.boundary)
    found = regions(part)
    return found, describe(part, found, contours.boundary, contours.colours)


def rate(
    scorer: Scorer, contours: Contours, found: Regions, features: NDArray[np.float32]
) -> RegionEmbedding:
    """Return regions with their scores. features: float32 (N, F)."""
    with torch.inference_mode():
        region_scores = scorer(torch.from_numpy(features))
    match = torch.sigmoid(region_scores.quality).numpy()
    quality = score(match, at_best(found, region_scores.vote.numpy()))
    return RegionEmbedding(found, features, match, quality, region_scores, contours.maps)


def score(match: NDArray[np.float32], expected: Floats) -> NDArray[np.float32]:
    """Return scores in [0, 1], float32, which rank the regions of an image and a click's answers.

    match: how well regions match what people mark anywhere, as Understood has it. expected: their
    IoU with what is meant, of regions that exclude each other
    (everything/bundled/region_selection.py). Their geometric mean, in which the latter counts
    twice: half way it ranks an image's regions as well, but a click's answers worse.
    """
    return np.cbrt(match * expected**2).astype(np.float32)


def boundary_map(
    network: BoundaryNetwork,
    rgb: Tensor,
    precision: torch.dtype | None = None,
    scales: Scales | None = None,
) -> tuple[Floats, Tensor]:
    """Return the strength of a contour in every pixel, float64 (h, w), the mean over scales,
    and the first scale's features of stride 8, float32 (1, 72, h', w'), on the network's device.

    rgb: float32 (1, 3, h, w) in [0, 1], on the CPU. precision: of most of the network; None:
    bfloat16 where the device multiplies it itself. scales: None for the network's own.
    """
    device = network.boundary.weight.device
    rgb = sent(rgb, device)
    precision = precision or (torch.bfloat16 if fast_bfloat16(device) else torch.float32)
    height, width = rgb.shape[-2:]
    seen_by: list[Tensor] = []
    for factor, longest in scales or network.scales:
        scale = min(factor, longest / max(height, width))
        size = [max(1, round(side * scale / STRIDE)) * STRIDE for side in (height, width)]
        seen = F.interpolate(rgb, size, mode="bicubic", antialias=True, align_corners=False)
        # oneDNN's bfloat16 convolutions with a stride read beyond the input where the output is one
        # cell wide (seen with AMX): NaN now and then.
        reduced = precision != torch.float32 and min(size) > STRIDE
        with torch.inference_mode(), torch.autocast(device.type, precision, reduced):
            pyramid = network.pyramid(seen.clamp(0, 1))
            logits = network.boundaries(pyramid)
        if not seen_by:
            maps = pyramid.x8.float()
        seen_by.append(F.interpolate(logits, (height, width), mode="bilinear", align_corners=False))
    found: Floats = fetched(torch.sigmoid(torch.cat(seen_by)).mean(0)[0]).double().numpy()
    return found**network.power, maps


def fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 itself; elsewhere float32 is faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(False))
    if device.type != "cpu":
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
