"""Augmentation: one random crop of an image and its regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from everything.io.datasets.label_maps import LabelledImage


class Crop(NamedTuple):
    """A crop and its labels.

    rgb: float32 (1, 3, h, w) in [0, 1]. labels: int64 (K, h/2, w/2) at the centres of 2 x 2 px,
    0 where unknown or outside the image.
    """

    rgb: Tensor
    labels: Tensor


@dataclass(frozen=True)
class RandomCrops:
    """How random crops are drawn. sides: long and short side of a crop, px; scale: of the image,
    log-uniform; turn: standard deviation of a turn, radians, given to two crops in five;
    recoloured: whether colours change too."""

    sides: tuple[int, int] = (448, 320)
    scale: tuple[float, float] = (0.75, 1.8)
    turn: float = 0.12
    whole: float = 0.3  # share of crops at natural scale
    recoloured: bool = True

    def __call__(self, truth: LabelledImage, random: torch.Generator) -> Crop:
        """Return a random crop of an image."""
        height, width = truth.pixels.shape[:2]
        long, short = self.sides
        h, w = (short, long) if width >= height else (long, short)
        grid = self._grid((height, width), (h, w), random)
        photo = torch.from_numpy(truth.pixels).permute(2, 0, 1)[None].float() / 255
        rgb = F.grid_sample(photo, grid, padding_mode="reflection", align_corners=False)
        if self.recoloured:
            rgb = _recoloured(rgb, random)
        return Crop(rgb, _labels_at(truth, F.avg_pool2d(grid.permute(0, 3, 1, 2), 2)[0]))

    def _grid(
        self, size: tuple[int, int], crop: tuple[int, int], random: torch.Generator
    ) -> Tensor:
        """Places in the image, float32 (1, h, w, 2) xy in [-1, 1], of the crop's pixels."""
        (height, width), (h, w) = size, crop
        low, high = self.scale
        natural = _uniform(random) < self.whole
        scale = 1.0 if natural else low * (high / low) ** _uniform(random)
        aspect = math.exp(_uniform(random, -0.15, 0.15))
        turned = _uniform(random) < 0.4
        angle = self.turn * float(torch.randn((), generator=random)) if turned else 0.0
        flip = -1.0 if _uniform(random) < 0.5 else 1.0
        # Image px per crop px, on both axes; the crop's centre stays where it covers the image.
        step_x, step_y = 1 / (scale * aspect), aspect / scale
        spare_x, spare_y = max(0.0, width - w * step_x), max(0.0, height - h * step_y)
        centre_x = width / 2 + spare_x * _uniform(random, -0.5, 0.5)
        centre_y = height / 2 + spare_y * _uniform(random, -0.5, 0.5)
        y = (torch.arange(h) + 0.5 - h / 2)[:, None] * step_y
        x = (torch.arange(w) + 0.5 - w / 2)[None, :] * (step_x * flip)
        cos, sin = math.cos(angle), math.sin(angle)
        xs = (centre_x + cos * x - sin * y) * (2 / width) - 1
        ys = (centre_y + sin * x + cos * y) * (2 / height) - 1
        return torch.stack([xs, ys], -1)[None]


def _uniform(random: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=random))


def _labels_at(truth: LabelledImage, places: Tensor) -> Tensor:
    """Labels int64 (K, h, w) at places (2, h, w) xy in [-1, 1]; 0 outside of the image."""
    _, height, width = truth.labels.shape
    x = ((places[0] + 1) * (width / 2)).floor().long()
    y = ((places[1] + 1) * (height / 2)).floor().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    flat = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten()
    labels: Tensor = torch.from_numpy(truth.labels).flatten(1)[:, flat].long()
    known: Tensor = labels.view(-1, *x.shape) * inside
    return known


def _recoloured(rgb: Tensor, random: torch.Generator) -> Tensor:
    """Change light, contrast, saturation and colour cast; sometimes blur or add noise."""
    if _uniform(random) < 0.8:
        contrast, saturation = _uniform(random, 0.6, 1.5), _uniform(random, 0.4, 1.5)
        if _uniform(random) < 0.08:
            saturation = 0.0
        grey = (rgb * rgb.new_tensor([0.30, 0.59, 0.11])[:, None, None]).sum(1, keepdim=True)
        rgb = grey + saturation * (rgb - grey)
        cast = torch.empty(3, 1, 1).uniform_(0.9, 1.1, generator=random)
        rgb = (rgb - 0.46) * contrast * cast + 0.46 + _uniform(random, -0.1, 0.1)
        rgb = rgb.clamp(0, 1)
    if _uniform(random) < 0.08:
        rgb = F.avg_pool2d(F.pad(rgb, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    if _uniform(random) < 0.1:
        sigma = _uniform(random, 0.01, 0.04)
        rgb = (rgb + sigma * torch.randn(rgb.shape, generator=random)).clamp(0, 1)
    return rgb
