"""The boundary network on an encoder that was trained on ImageNet."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.boundary_net import (
    AFFINITIES,
    SINGLE_SCALE,
    Attention,
    BoundaryNetwork,
    ColourGradients,
    Lateral,
    Pyramid,
    Residual,
    group_norm,
    initialise,
    smooth,
)
from everything.bundled.lite_encoder import CHANNELS, LiteEncoder


class PretrainedBoundaryNet(BoundaryNetwork):
    """`BoundaryNet` with the feature maps of an encoder in the place of its own way down.

    widths: channels at strides 2, 4, 8, 16, 32.
    """

    scales = SINGLE_SCALE
    power = 0.3
    unit: Tensor

    def __init__(self, widths: tuple[int, int, int, int, int] = (24, 40, 72, 128, 192)) -> None:
        super().__init__()
        a, b, c, d, e = widths
        # What the encoder's five feature maps are multiplied with, so that they vary by about 1.
        self.register_buffer("unit", torch.ones(len(CHANNELS)))
        self.stem = nn.Conv2d(3, a, 3, stride=2, padding=1)
        self.prior = nn.Conv2d(ColourGradients.channels, a, 1)
        self.to4 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.take = nn.ModuleList(
            nn.Conv2d(channels, width, 1) for channels, width in zip(CHANNELS, widths, strict=True)
        )
        self.at32 = nn.Sequential(Attention(e), Attention(e), group_norm(e))
        self.up16 = Lateral(e, d, Residual(d))
        self.up8 = Lateral(d, c, smooth(c))
        self.up4 = Lateral(c, b, smooth(b))
        self.up2 = Lateral(b, a, smooth(a))
        self.affinity = nn.Conv2d(b, AFFINITIES, 3, padding=1)
        self.boundary = nn.Conv2d(a + ColourGradients.channels, 1, 3, padding=1)
        self.encoder = LiteEncoder()
        initialise(self)

    def pyramid(self, rgb: Tensor) -> Pyramid:
        """Return the feature maps: see `BoundaryNetwork.pyramid`."""
        prior = self.prior_of(rgb)
        scaled = zip(self.take, self.encoder(rgb), self.unit, strict=True)
        x2, x4, x8, x16, x32 = (take(maps * unit) for take, maps, unit in scaled)
        rgb = (rgb * 4 - 2).contiguous(memory_format=torch.channels_last)
        x2 = F.relu(self.stem(rgb) + self.prior(prior) + x2)
        x4 = self.to4(x2) + x4
        x16 = self.up16(self.at32(x32), x16)
        x8 = self.up8(x16, x8)
        return Pyramid(prior, x2, self.up4(x8, x4), x8, x16)

    @torch.no_grad()
    def measure(self, images: Iterable[Tensor]) -> None:
        """Set `unit` from the encoder's feature maps of images as `forward` takes them."""
        deviations = [torch.stack([maps.std() for maps in self.encoder(rgb)]) for rgb in images]
        self.unit.copy_(1 / torch.stack(deviations).mean(0))
