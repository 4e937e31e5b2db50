"""Layers with 8-bit integer weights and inputs, whose ranges were calibrated on images.

A layer's input x is rounded to q = x / s + z in [0, 127]; weights have one scale per output.
oneDNN's CPU kernels, which torchao's compiled graphs also use, multiply and sum integers. Inputs
have 7 bits, because CPUs without VNNI add two products in 16 bits, which would overflow with 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from everything.errors import ConfigError

TOP = 127  # largest rounded input
_PLAIN: list[Any] = [1.0, 0, torch.float32, "none", [], ""]  # of the output: as it is


class Int8Layer(nn.Module):
    """Base of int8 layers, which run after `pack`.

    Attributes:
        weight: int8, of the float layer's shape.
        bias: float32 (N,).
        weight_scale: float32 (N,).
        input_scale: float32 ().
        input_zero: float32 ().
    """

    weight: Tensor
    bias: Tensor
    weight_scale: Tensor
    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        count = layer.weight.shape[0]
        self.register_buffer("weight", torch.zeros_like(layer.weight, dtype=torch.int8))
        for name, shape in (("weight_scale", (count,)), ("bias", (count,))):
            self.register_buffer(name, layer.weight.new_zeros(shape))
        for name in ("input_scale", "input_zero"):
            self.register_buffer(name, layer.weight.new_zeros(()))

    def pack(self) -> None:
        """Convert the values to the kernels' layout.

        Raises:
            ConfigError: torch was built without oneDNN.
        """
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            raise ConfigError(
                "q-tinysam needs a torch built with oneDNN: use tinysam on this machine"
            )
        self.into = float(self.input_scale), int(self.input_zero)
        self.packed = self.prepacked(self.weight.contiguous())
        zeros = torch.zeros(len(self.weight_scale), dtype=torch.int32)
        self.operands = *self.into, self.packed, self.weight_scale, zeros, self.bias

    def prepacked(self, weight: Tensor) -> Tensor:
        """Return a weight in the kernels' layout."""
        raise NotImplementedError

    def rounded(self, x: Tensor) -> Tensor:
        """Return a float32 input rounded to uint8."""
        scale, zero = self.into
        return (x / scale).round_().add_(zero).clamp_(0, TOP).to(torch.uint8)


class Int8Linear(Int8Layer):
    """A linear layer."""

    def prepacked(self, weight: Tensor) -> Tensor:
        """See Int8Layer."""
        packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
        return packed

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 (..., N) for float32 (..., K)."""
        q = self.rounded(x).flatten(0, -2)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(q, *self.operands, *_PLAIN)
        return y.view(*x.shape[:-1], -1)


class Int8Conv2d(Int8Layer):
    """A convolution with zero padding."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer)
        sides = (layer.stride, layer.padding, layer.dilation)
        self.how = (*(list(_pair(side)) for side in sides), layer.groups)

    def prepacked(self, weight: Tensor) -> Tensor:
        """See Int8Layer."""
        packed: Tensor = torch.ops.onednn.qconv_prepack(
            weight, self.weight_scale, *self.into, *self.how, None
        )
        return packed

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 (B, N, h', w') for float32 (B, C, h, w)."""
        q = self.rounded(x.contiguous(memory_format=torch.channels_last))
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(q, *self.operands, *self.how, *_PLAIN)
        return y


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def layers_of(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Yield the names and layers of a network that have an int8 counterpart."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) or (
            isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros"
        ):
            yield name, layer


def replace_layers(
    network: nn.Module, made: Callable[[str, nn.Linear | nn.Conv2d], nn.Module]
) -> None:
    """Replace every layer that has an int8 counterpart by `made(name, layer)`."""
    for name, layer in list(layers_of(network)):
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, made(name, layer))


def empty(layer: nn.Linear | nn.Conv2d) -> Int8Layer:
    """Return the int8 counterpart of a float layer, without values."""
    return Int8Linear(layer) if isinstance(layer, nn.Linear) else Int8Conv2d(layer)


def pack(network: nn.Module) -> None:
    """Make all int8 layers of a network ready to run."""
    for layer in network.modules():
        if isinstance(layer, Int8Layer):
            layer.pack()


def fold_norms(network: nn.Module) -> None:
    """Fold batch norms into the convolutions before them, in modules that have `conv` and `bn`."""
    for name, pair in list(network.named_modules()):
        convolution, norm = getattr(pair, "conv", None), getattr(pair, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, _folded(convolution, norm))


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    if convolution.weight.is_meta:  # has shapes only
        return nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            groups=convolution.groups,
            device="meta",
        )
    return nn.utils.fuse_conv_bn_eval(convolution, norm)
