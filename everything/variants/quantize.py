"""Post-training quantisation of an image encoder to int8, calibrated on images.

Observers and the rounding of weights are torchao's. Its integer layers are not used: on CPUs
without VNNI they are 30 to 50 times slower than float layers (torchao 0.18), and there are none for
convolutions. See everything/variants/networks/int8.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from everything.core.file_names import printable
from everything.core.geometry import View, whole
from everything.core.prompts import Prompts, lattice
from everything.errors import ConfigError, InputError, StoreError
from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks import q_tinysam, tinyvit
from everything.variants.networks.int8 import TOP, empty, layers_of, pack, replace_layers
from everything.variants.networks.sam import SamModel

SAMPLES = 2**16  # values of a tensor that an observer is given
CLICKS = 8  # points per side of the grid whose masks are compared
CALIBRATE, COMPARE = 16, 4  # images


@dataclass(frozen=True)
class Quantised:
    """The result of a quantisation.

    Attributes:
        file: The quantised weights.
        images: Number of images used for calibration.
        iou: Mean IoU of the masks before and after, for the same clicks.
        seconds: Time to encode an image, before and after.
        size: Size of the weights before and after, bytes.
    """

    file: Path
    images: int
    iou: float
    seconds: tuple[float, float]
    size: tuple[int, int]

    def __str__(self) -> str:
        before, after = self.seconds
        return (
            f"{self.file}: calibrated on {self.images} images; masks of the same clicks overlap by "
            f"{self.iou:.3f} (mean IoU); encoding an image {before * 1000:.0f} ms before, "
            f"{after * 1000:.0f} ms after; weights {self.size[0] / 1e6:.1f} MB before, "
            f"{self.size[1] / 1e6:.1f} MB after"
        )


def quantize_tinysam(
    images: Iterable[NDArray[np.uint8]],
    out: Path,
    *,
    variant: str = "tinysam",
    checkpoint: Path | None = None,
    limit: int = CALIBRATE,
    **options: Any,
) -> Quantised:
    """Write the weights of `--variant q-tinysam` from TinySAM's, or MobileSAM's.

    Args:
        images: uint8 (H, W, 3) RGB. The first `limit` are used for calibration. Masks are compared
            on up to COMPARE images after them, or on the same ones if there are no more.
        out: The file to write (.safetensors).
        variant: tinysam or mobilesam.
        checkpoint: Weights of the variant; None: its official ones.
        limit: Number of images to calibrate on.
        **options: Of the network's blueprint.

    Returns:
        What changed.

    Raises:
        InputError: There are no images.
        ConfigError: The variant cannot be quantised, or torchao is not installed.
        WeightsError: The checkpoint cannot be read.
        StoreError: The file exists, or cannot be written.
    """
    record = VARIANTS.get(variant)
    if record is None or record.module != tinyvit.__name__:
        raise ConfigError(f"variant {variant!r}: tinysam and mobilesam can be quantised")
    _check_new(out)
    path = checkpoint or record.weights.path()
    views = [whole(image) for image in islice(images, limit + COMPARE)]
    if not views:
        raise InputError(
            "no images to calibrate on: give some of the images that you want to label"
        )
    before = tinyvit.build(read_state(path), str(path), **options)
    after = tinyvit.build(read_state(path), str(path), **options)
    q_tinysam.reduced(after.network.image_encoder)
    quantize_encoder(after, views[:limit])
    state = {name: value.contiguous() for name, value in after.network.state_dict().items()}
    _save(state, out, {"from": variant, "photos": str(len(views[:limit]))})
    compared = views[limit:] or views
    return Quantised(
        out,
        len(views[:limit]),
        mean_iou(before, after, compared),
        (seconds(before, compared), seconds(after, compared)),
        (path.stat().st_size, out.stat().st_size),
    )


def _check_new(out: Path) -> None:
    if os.path.lexists(out):
        raise StoreError(f"{printable(out)}: exists, and is not replaced: give another --out")


def _save(state: dict[str, Tensor], out: Path, about: dict[str, str]) -> None:
    """Write the weights, whole or not at all; a file that has appeared meanwhile is kept."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            whole_file = Path(folder, "weights")
            save_file(state, whole_file, about)
            _check_new(out)
            whole_file.rename(out)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(f"{printable(out)}: {reason}: give another --out") from error


@torch.no_grad()
def quantize_encoder(model: SamModel, views: Iterable[View]) -> None:
    """Replace the image encoder's layers by int8 layers, with the input ranges seen on images.

    Layers that are never called are kept.

    Raises:
        ConfigError: torchao is not installed.
    """
    encoder = model.network.image_encoder
    observed = {name: _ObservedLayer(layer) for name, layer in layers_of(encoder)}
    for view in views:
        encoder(model.pixels(view))

    def made(name: str, layer: nn.Linear | nn.Conv2d) -> nn.Module:
        return observed[name].quantised()

    replace_layers(encoder, made)
    pack(encoder)


class _ObservedLayer:
    """A layer whose inputs are recorded by one of torchao's observers."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        try:
            from torchao.quantization.pt2e import HistogramObserver
        except ImportError as error:
            raise ConfigError(
                "quantisation needs the package torchao: pip install torchao"
            ) from error
        self.layer = layer
        self.input = HistogramObserver(dtype=torch.quint8, quant_min=0, quant_max=TOP)
        self.was_called = False
        self.hook = layer.register_forward_hook(self._observe)

    def _observe(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.was_called = True
        self.input(_sample(inputs[0]))

    def quantised(self) -> nn.Module:
        """The int8 layer, or the layer itself if it was never called."""
        from torchao.quantization import Int8Tensor, PerRow

        self.hook.remove()
        if not self.was_called:
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


def _sample(values: Tensor) -> Tensor:
    flat = values.detach().float().flatten()
    return flat[:: max(1, len(flat) // SAMPLES)]


@torch.inference_mode()
def mean_iou(before: SamModel, after: SamModel, views: Iterable[View]) -> float:
    """Return the mean IoU of the masks that two models predict for the same clicks on images."""
    found: list[Tensor] = []
    for view in views:
        a, b = (_masks(model, view) for model in (before, after))
        either = (a | b).sum((1, 2))
        found.append(torch.where(either > 0, (a & b).sum((1, 2)) / either.clamp(min=1), 1.0))
    return float(torch.cat(found).mean())


def _masks(model: SamModel, view: View) -> Tensor:
    """One mask for each click of a grid, bool (P, hl, wl)."""
    height, width = view.size
    points = lattice(CLICKS) * torch.tensor([width, height], dtype=torch.float64)
    clicks = Prompts.clicks(model.frame(view.size).to_canvas(points))
    candidates = model.propose(model.encode(view), clicks, False)
    return candidates.draw(torch.arange(len(clicks))) > 0


@torch.inference_mode()
def seconds(model: SamModel, views: Iterable[View]) -> float:
    """Return the shortest time in which the image encoder encodes one of the images."""

    def once(pixels: Tensor, encode: Callable[[Tensor], Tensor]) -> float:
        start = time.perf_counter()
        encode(pixels)
        return time.perf_counter() - start

    return min(once(model.pixels(view), model.network.image_encoder) for view in views)
