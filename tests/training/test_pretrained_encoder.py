"""ImageNet weights: read from their package, as its own model code reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor, nn

from everything.bundled.lite_encoder import LiteEncoder
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.errors import WeightsError
from everything.training.pretrained_encoder import (
    folded,
    folded_state,
    imagenet_weights,
    load_imagenet,
    unfold,
)

ENDS = (0, 2, 4, 10, 15)  # the official model's blocks after which strides change


@pytest.fixture(scope="module")
def official() -> nn.Module:
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(imagenet_weights(), weights_only=True))
    return model


def maps_of(official: nn.Module, rgb: Tensor) -> list[Tensor]:
    x = official._swish(official._bn0(official._conv_stem((rgb * 255 - 127) / 128)))
    maps = []
    for number, block in enumerate(official._blocks):
        x = block(x)
        if number in ENDS:
            maps.append(x)
    return maps


def test_features_are_those_of_the_package_s_model_code(official: nn.Module) -> None:
    encoder = LiteEncoder().eval()
    load_imagenet(encoder)
    torch.manual_seed(1)
    # The official code pads for its 224 px; at that size both pad alike.
    rgb = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        for maps, right in zip(encoder(rgb), maps_of(official, rgb), strict=True):
            assert right.std() > 0.05
            torch.testing.assert_close(maps, right, rtol=1e-4, atol=1e-4)


def test_folding_changes_nothing_but_names(official: nn.Module) -> None:
    torch.manual_seed(0)
    network = PretrainedBoundaryNet().eval()
    plain = set(network.state_dict())
    load_imagenet(network.encoder)
    rgb = torch.rand(1, 3, 64, 64)
    network.measure([rgb])
    shipped = folded(network)
    assert set(shipped.state_dict()) == plain
    assert set(network.state_dict()) != plain
    with torch.inference_mode():
        maps = shipped.encoder(rgb)
        assert [float((m * u).std()) for m, u in zip(maps, shipped.unit, strict=True)] == (
            pytest.approx([1.0] * 5, rel=1e-3)
        )
        for one, other in zip(network(rgb), shipped(rgb), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_unfolded_weights_are_trained_as_those_of_imagenet(official: nn.Module) -> None:
    first, second = LiteEncoder().eval(), LiteEncoder().eval()
    load_imagenet(first)
    second.load_state_dict(folded_state(first))
    unfold(second)
    assert second.state_dict().keys() == first.state_dict().keys()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_scales_and_statistics_are_not_trained(official: nn.Module) -> None:
    encoder = LiteEncoder()
    load_imagenet(encoder)
    trained = {name.rsplit(".", 1)[1] for name, _ in encoder.named_parameters()}
    assert trained == {"original", "bias"}
    sum(maps.square().mean() for maps in encoder(torch.rand(1, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_other_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"_conv_stem.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="no weights of EfficientNet-Lite0") as refused:
        load_imagenet(LiteEncoder(), file)
    assert "\n" not in str(refused.value)
