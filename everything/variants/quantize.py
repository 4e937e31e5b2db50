"""Post-training quantisation: the encoder's ranges are observed on images, then rounded to int8.

Observers and the rounding of weights are torchao's. Its own integer layers are not used: on CPUs
without VNNI they are 30 to 50 times slower than floats (torchao 0.18), and they leave convolutions
out. See everything/variants/networks/int8.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from everything.core.geometry import View, whole
from everything.core.prompts import Prompts, lattice
from everything.errors import ConfigError, InputError
from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks import q_tinysam, tinyvit
from everything.variants.networks.int8 import TOP, empty, layers_of, pack, replace_layers
from everything.variants.networks.sam import SamModel

SAMPLES = 2**16  # values of a tensor that an observer gets
CLICKS = 8  # on each side of the grid whose masks are compared
PHOTOS, CHECKS = 16, 4


@dataclass(frozen=True)
class Quantised:
    """What became of an encoder.

    iou: mean IoU of the masks of the same clicks, before and after. seconds: of encoding an image,
    and size: of the weights, bytes; before and after.
    """

    file: Path
    photos: int
    iou: float
    seconds: tuple[float, float]
    size: tuple[int, int]

    def __str__(self) -> str:
        before, after = self.seconds
        return (
            f"{self.file}: calibrated on {self.photos} images; masks of the same clicks overlap by "
            f"{self.iou:.3f} (mean IoU); encoding an image {before * 1000:.0f} ms before, "
            f"{after * 1000:.0f} ms after; weights {self.size[0] / 1e6:.1f} MB before, "
            f"{self.size[1] / 1e6:.1f} MB after"
        )


def quantize_tinysam(
    photos: Iterable[NDArray[np.uint8]],
    out: Path,
    *,
    variant: str = "tinysam",
    checkpoint: Path | None = None,
    limit: int = PHOTOS,
    **options: Any,
) -> Quantised:
    """Write the weights of `--variant q-tinysam` from TinySAM's, or MobileSAM's.

    photos: uint8 (H, W, 3) RGB; the first `limit` calibrate, the CHECKS after them, or where there
    are none the same, are compared. checkpoint: of the variant, its official one if None. options:
    of the blueprint. Raises InputError without images, ConfigError for another variant or without
    torchao, and WeightsError.
    """
    record = VARIANTS.get(variant)
    if record is None or record.module != tinyvit.__name__:
        raise ConfigError(f"variant {variant!r}: tinysam and mobilesam can be quantised")
    path = checkpoint or record.weights.path()
    seen = [whole(photo) for photo in islice(photos, limit + CHECKS)]
    if not seen:
        raise InputError("no images to calibrate on: give some of the images to be labelled")
    before = tinyvit.build(read_state(path), str(path), **options)
    after = tinyvit.build(read_state(path), str(path), **options)
    q_tinysam.reduced(after.network.image_encoder)
    quantize_encoder(after, seen[:limit])
    state = {name: value.contiguous() for name, value in after.network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, {"from": variant, "photos": str(len(seen[:limit]))})
    checks = seen[limit:] or seen
    return Quantised(
        out,
        len(seen[:limit]),
        mean_iou(before, after, checks),
        (seconds(before, checks), seconds(after, checks)),
        (path.stat().st_size, out.stat().st_size),
    )


@torch.no_grad()
def quantize_encoder(model: SamModel, photos: Iterable[View]) -> None:
    """Put integers in the place of the image encoder's layers, by their ranges on images.

    Layers that no image reached stay. Raises ConfigError if torchao is not installed.
    """
    encoder = model.network.image_encoder
    watched = {name: _Watched(layer) for name, layer in layers_of(encoder)}
    for view in photos:
        encoder(model.pixels(view))

    def made(name: str, layer: nn.Linear | nn.Conv2d) -> nn.Module:
        return watched[name].quantised()

    replace_layers(encoder, made)
    pack(encoder)


class _Watched:
    """A layer whose inputs an observer of torchao's looks at."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        try:
            from torchao.quantization.pt2e import HistogramObserver
        except ImportError as error:
            raise ConfigError(
                "quantisation needs the package torchao: pip install torchao"
            ) from error
        self.layer = layer
        self.input = HistogramObserver(dtype=torch.quint8, quant_min=0, quant_max=TOP)
        self.seen = False
        self.hook = layer.register_forward_hook(self._look)

    def _look(self, layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        self.seen = True
        self.input(_some(given[0]))

    def quantised(self) -> nn.Module:
        """The layer in integers, or as it was if nothing came into it."""
        from torchao.quantization import Int8Tensor, PerRow

        self.hook.remove()
        if not self.seen:
            return self.layer
        layer, weight = empty(self.layer), self.layer.weight.detach()
        rounded = Int8Tensor.from_hp(weight.flatten(1), granularity=PerRow())
        layer.weight.copy_(rounded.qdata.view_as(weight))
        layer.weight_scale.copy_(rounded.scale.flatten())
        if self.layer.bias is not None:
            layer.bias.copy_(self.layer.bias)
        scale, zero = self.input.calculate_qparams()
        layer.input_scale.copy_(scale.squeeze())
        layer.input_zero.copy_(zero.squeeze())
        return layer


def _some(values: Tensor) -> Tensor:
    flat = values.detach().float().flatten()
    return flat[:: max(1, len(flat) // SAMPLES)]


@torch.inference_mode()
def mean_iou(before: SamModel, after: SamModel, photos: Iterable[View]) -> float:
    """Return the mean IoU of the masks that two models predict for the same clicks on images."""
    found: list[Tensor] = []
    for view in photos:
        a, b = (_masks(model, view) for model in (before, after))
        either = (a | b).sum((1, 2))
        found.append(torch.where(either > 0, (a & b).sum((1, 2)) / either.clamp(min=1), 1.0))
    return float(torch.cat(found).mean())


def _masks(model: SamModel, view: View) -> Tensor:
    """One mask for each of a lattice of clicks, bool (P, hl, wl)."""
    height, width = view.size
    points = lattice(CLICKS) * torch.tensor([width, height], dtype=torch.float64)
    clicks = Prompts.clicks(model.frame(view.size).to_canvas(points))
    candidates = model.propose(model.encode(view), clicks, False)
    return candidates.draw(torch.arange(len(clicks))) > 0


@torch.inference_mode()
def seconds(model: SamModel, photos: Iterable[View]) -> float:
    """Return the shortest time that the image encoder takes for an image."""

    def once(pixels: Tensor, encode: Callable[[Tensor], Tensor]) -> float:
        start = time.perf_counter()
        encode(pixels)
        return time.perf_counter() - start

    return min(once(model.pixels(view), model.network.image_encoder) for view in photos)
