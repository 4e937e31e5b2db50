"""Boundary networks: where, in an image, one region ends and another begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The scales that a network runs at, because it finds objects best at about their size in training:
# of each, a factor and the longest side that it may give, px.
Scales = tuple[tuple[float, int], ...]
# The image's own scale for large objects, and enlarged for what is finer than the stride.
SCALES: Scales = ((1.0, 640), (2.0, 960))
# One scale in between takes half the time and loses 4 % of AR@100 (docs/samplers.md).
SINGLE_SCALE: Scales = ((1.25, 640),)
STRIDE = 32  # the network's input sides must be multiples of it
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (down, right)
DISTANCES = (1, 2, 4, 8, 16, 32)
AFFINITIES = len(DIRECTIONS) * len(DISTANCES)
# Luminance, red-green and blue-yellow of RGB in [0, 1]; the last two halve the range.
OPPONENT = ((0.30, 0.59, 0.11), (1.0, -1.0, 0.0), (-0.5, -0.5, 1.0))
GRADIENT_SIGMAS = (0.8, 1.6)  # px at stride 2; the wider one is used at stride 4 too


class Dense(NamedTuple):
    """What the network says of every place, as logits.

    boundary: float32 (B, 1, h/2, w/2). affinity: float32 (B, 24, h/4, w/4), whether a cell and its
    neighbour at DISTANCES x DIRECTIONS are of one region.
    """

    boundary: Tensor
    affinity: Tensor


class Pyramid(NamedTuple):
    """Feature maps (B, C, h / s, w / s) at strides s; from stride 4 on with their surroundings.

    prior and x2: 12 and 24 channels at stride 2. x4, x8, x16: 40, 72 and 128 channels.
    """

    prior: Tensor
    x2: Tensor
    x4: Tensor
    x8: Tensor
    x16: Tensor


class ColourGradients(nn.Module):
    """Twelve fixed channels at stride 2: colour-opponent gradients at three scales, and colours.

    Gradients of opponent colours are what boundary detectors used before networks (Martin, Fowlkes
    and Malik, PAMI 2004). A small network need not spend its training on finding them again.
    """

    channels = 12

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("opponent", torch.tensor(OPPONENT)[..., None, None], persistent=False)
        for name, sigma in zip(("fine", "coarse"), GRADIENT_SIGMAS, strict=True):
            smooth, slope = _gaussian(sigma)
            self.register_buffer(f"{name}_smooth", smooth, persistent=False)
            self.register_buffer(f"{name}_slope", slope, persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Return float32 (B, 12, h/2, w/2) of RGB float32 (B, 3, h, w) in [0, 1]."""
        colours = F.conv2d(F.avg_pool2d(rgb, 2), self.get_buffer("opponent"))
        half = F.avg_pool2d(colours, 2)
        gradients = [self._gradient(colours, "fine"), self._gradient(colours, "coarse")]
        gradients.append(_resized(self._gradient(half, "coarse"), colours))
        # The logarithm brings faint and strong contrasts to one scale, about [-1, 1].
        return torch.cat([torch.log(g + 0.005) * 0.5 + 1.5 for g in gradients] + [colours], 1)

    def _gradient(self, colours: Tensor, name: str) -> Tensor:
        smooth, slope = self.get_buffer(f"{name}_smooth"), self.get_buffer(f"{name}_slope")
        x = _separable(colours, slope, smooth)
        y = _separable(colours, smooth, slope)
        return torch.sqrt(x * x + y * y + 1e-8)


def _gaussian(sigma: float) -> tuple[Tensor, Tensor]:
    """A Gaussian window and its slope, scaled so that a unit step gives about 0.4 at any sigma."""
    radius = round(3 * sigma)
    t = torch.arange(-radius, radius + 1).float()
    smooth = torch.exp(-t * t / (2 * sigma * sigma))
    smooth = smooth / smooth.sum()
    return smooth, -t / sigma * smooth


def _separable(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    channels, radius = x.shape[1], len(across) // 2
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, across.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, down.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a norm over groups of eight channels."""
    return nn.GroupNorm(max(1, channels // 8), channels)


class Residual(nn.Module):
    """Two 3 x 3 convolutions behind a norm, added to the input with a learned weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.gain = nn.Parameter(torch.full((1, channels, 1, 1), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) of the same."""
        update: Tensor = self.second(F.relu(self.first(self.norm(x))))
        return x + self.gain * update


class Attention(nn.Module):
    """A transformer block over all places, told where they are by a convolution alone, so that
    any size and aspect works (conditional position encoding, Chu et al., 2021)."""

    def __init__(self, channels: int, heads: int = 4, widening: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, widening * channels)
        self.narrow = nn.Linear(widening * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) of the same."""
        batch, channels, height, width = x.shape
        tokens = (x + self.place(x)).flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(batch, -1, channels))
        tokens = tokens + self.narrow(F.gelu(self.widen(self.mlp_norm(tokens))))
        places: Tensor = tokens.transpose(1, 2).reshape(batch, channels, height, width)
        return places


class Lateral(nn.Module):
    """One step down the pyramid: what is coarse, brought up and added to what is fine."""

    def __init__(self, coarse: int, fine: int, block: nn.Module) -> None:
        super().__init__()
        self.norm = group_norm(fine)
        self.project = nn.Conv2d(coarse, fine, 1)
        self.block = block

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return (B, fine, h, w) of (B, coarse, h/2, w/2) and (B, fine, h, w)."""
        merged: Tensor = self.block(self.norm(fine) + _resized(self.project(coarse), fine))
        return merged


def smooth(channels: int) -> nn.Sequential:
    """Return a 3 x 3 convolution and a ReLU."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())


class BoundaryNetwork(nn.Module, ABC):
    """A U-Net of strides 2 to 32 that finds boundaries and affinities.

    Attributes:
        scales: Those that it runs at by default.
        power: Of a boundary's probability, which makes its strength. Below 1, faint contours,
            which a sure network gives hundredths, still part regions.
    """

    scales: ClassVar[Scales]
    power: ClassVar[float] = 1.0
    up2: Lateral
    affinity: nn.Conv2d
    boundary: nn.Conv2d

    def __init__(self) -> None:
        super().__init__()
        self.colours = ColourGradients()

    @abstractmethod
    def pyramid(self, rgb: Tensor) -> Pyramid:
        """Return what the heads see, for other networks that grow on this one; takes and raises
        what `forward` does."""

    def forward(self, rgb: Tensor) -> Dense:
        """Return boundaries and affinities of RGB float32 (B, 3, h, w) in [0, 1], h and w
        multiples of 32. Raises ValueError if they are not."""
        return self.heads(self.pyramid(rgb))

    def heads(self, maps: Pyramid) -> Dense:
        """Return boundaries and affinities of what `pyramid` returned."""
        return Dense(self.boundaries(maps), self.affinity(maps.x4).float())

    def boundaries(self, maps: Pyramid) -> Tensor:
        """Return the boundaries alone, see `Dense`, of what `pyramid` returned."""
        x2 = self.up2(maps.x4, maps.x2)
        # In bfloat16 neighbouring pixels would have equal boundaries, and basins ragged contours.
        with torch.autocast(x2.device.type, enabled=False):
            boundary: Tensor = self.boundary(torch.cat([x2.float(), maps.prior], 1))
        return boundary

    def prior_of(self, rgb: Tensor) -> Tensor:
        """Return the fixed gradients of RGB as `forward` takes it, float32 (B, 12, h/2, w/2).

        Raises:
            ValueError: If a side is no multiple of 32.
        """
        if rgb.shape[-2] % STRIDE or rgb.shape[-1] % STRIDE:
            raise ValueError(f"sides must be multiples of {STRIDE}, not {tuple(rgb.shape[-2:])}")
        with torch.no_grad(), torch.autocast(rgb.device.type, enabled=False):
            prior: Tensor = self.colours(rgb.float())
        return prior.contiguous(memory_format=torch.channels_last)


class BoundaryNet(BoundaryNetwork):
    """A U-Net of strides 2 to 32 with attention at the coarsest and boundaries at the finest.

    widths: channels at strides 2, 4, 8, 16, 32.
    """

    scales = SCALES

    def __init__(self, widths: tuple[int, int, int, int, int] = (24, 40, 72, 128, 192)) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = nn.Conv2d(3, a, 3, stride=2, padding=1)
        self.prior = nn.Conv2d(ColourGradients.channels, a, 1)
        self.to4 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.at4 = Residual(b)
        self.to8 = nn.Sequential(group_norm(b), nn.ReLU(), nn.Conv2d(b, c, 3, stride=2, padding=1))
        self.at8 = nn.Sequential(Residual(c), Residual(c))
        self.to16 = nn.Sequential(group_norm(c), nn.ReLU(), nn.Conv2d(c, d, 3, stride=2, padding=1))
        self.at16 = nn.Sequential(Residual(d), Residual(d))
        self.to32 = nn.Sequential(group_norm(d), nn.ReLU(), nn.Conv2d(d, e, 3, stride=2, padding=1))
        self.at32 = nn.Sequential(Attention(e), Attention(e), group_norm(e))
        self.up16 = Lateral(e, d, Residual(d))
        self.up8 = Lateral(d, c, smooth(c))
        self.up4 = Lateral(c, b, smooth(b))
        self.up2 = Lateral(b, a, smooth(a))
        self.affinity = nn.Conv2d(b, AFFINITIES, 3, padding=1)
        self.boundary = nn.Conv2d(a + ColourGradients.channels, 1, 3, padding=1)
        initialise(self)

    def pyramid(self, rgb: Tensor) -> Pyramid:
        """Return the feature maps: see `BoundaryNetwork.pyramid`."""
        prior = self.prior_of(rgb)
        rgb = (rgb * 4 - 2).contiguous(memory_format=torch.channels_last)
        x2 = F.relu(self.stem(rgb) + self.prior(prior))
        x4 = self.at4(self.to4(x2))
        x8 = self.at8(self.to8(x4))
        x16 = self.at16(self.to16(x8))
        x32 = self.at32(self.to32(x16))
        x16 = self.up16(x32, x16)
        x8 = self.up8(x16, x8)
        return Pyramid(prior, x2, self.up4(x8, x4), x8, x16)


def initialise(network: BoundaryNetwork) -> None:
    """Give a network random weights, its heads small ones."""
    network.apply(_initialise)
    for head in (network.affinity, network.boundary):
        nn.init.normal_(head.weight, std=0.02)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
