"""Layers in integers, against the float layers that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from everything.variants.networks.int8 import (
    Int8Conv2d,
    Int8Layer,
    Int8Linear,
    empty,
    fold_norms,
    layers_of,
    replace_layers,
)

X = torch.randn(2, 8, 12, 10, generator=torch.Generator().manual_seed(0))
LAYERS = [
    (nn.Linear(10, 6), X),
    (nn.Linear(10, 6, bias=False), X[0, 0]),
    (nn.Conv2d(8, 16, 3, padding=1), X),
    (nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), X),
    (nn.Conv2d(8, 8, 3, padding=1, groups=8), X),
    (nn.Conv2d(8, 4, 1), X),
]


def filled(layer: nn.Linear | nn.Conv2d, x: torch.Tensor, top: float) -> Int8Layer:
    """The integer layer, its ranges those of x; inputs reach from -top to top."""
    made, weight = empty(layer), layer.weight.detach()
    scale = weight.abs().flatten(1).amax(1) / 127
    made.weight.copy_((weight / scale.view(-1, *[1] * (weight.ndim - 1))).round())
    made.weight_scale.copy_(scale)
    if layer.bias is not None:
        made.bias.copy_(layer.bias.detach())
    made.input_scale.fill_(2 * top / 127)
    made.input_zero.fill_(63)
    made.pack()
    return made


@pytest.mark.parametrize(("layer", "x"), LAYERS)
def test_a_layer_of_integers_says_nearly_the_same(
    layer: nn.Linear | nn.Conv2d, x: torch.Tensor
) -> None:
    made = filled(layer, x, float(x.abs().max()))
    assert isinstance(made, Int8Linear if isinstance(layer, nn.Linear) else Int8Conv2d)
    expected, found = layer(x).detach(), made(x)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert (found - expected).norm() / expected.norm() < 0.05
    # It is integers that are multiplied: rounding x before changes nothing.
    scale, zero = made.into
    rounded = ((x / scale).round().clamp(-zero, 127 - zero)) * scale
    assert torch.equal(made(rounded), found)


def test_inputs_beyond_the_range_are_at_its_ends() -> None:
    layer = nn.Linear(10, 6)
    made = filled(layer, X, 1.0)
    assert torch.equal(made(X), made(X.clamp(-63 * 2 / 127, 64 * 2 / 127)))


def test_large_sums_do_not_overflow() -> None:
    layer = nn.Linear(4096, 3, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.ones(2, 4096)
    assert torch.allclose(filled(layer, x, 1.0)(x), torch.tensor(4096.0), rtol=0.02)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn(self.conv(x))
        return y


def test_folded_norms_change_nothing() -> None:
    network = nn.Sequential(Pair(), nn.GELU()).eval()
    bn = network.get_submodule("0.bn")
    assert isinstance(bn, nn.BatchNorm2d)
    for value in (bn.running_mean, bn.running_var, bn.weight.data, bn.bias.data):
        assert value is not None
        value.uniform_(0.5, 2)
    expected = network(X)
    fold_norms(network)
    assert isinstance(network[0], nn.Conv2d)
    assert torch.allclose(network(X), expected, atol=1e-5)
    with torch.device("meta"):
        shapes = nn.Sequential(Pair(), nn.GELU()).eval()
    fold_norms(shapes)
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert own == {name: tensor.shape for name, tensor in shapes.state_dict().items()}


def test_every_layer_is_replaced() -> None:
    network = nn.Sequential(Pair(), nn.Flatten(), nn.Linear(120, 2))
    assert [name for name, _ in layers_of(network)] == ["0.conv", "2"]
    replace_layers(network, lambda name, layer: empty(layer))
    assert isinstance(network[2], Int8Linear)
    assert isinstance(network.get_submodule("0.conv"), Int8Conv2d)
    assert not list(layers_of(network))
