"""The encoder is EfficientNet-Lite0, compared with timm's."""

from __future__ import annotations

import pytest
import timm
import torch

from everything.bundled.lite_encoder import CHANNELS, LiteEncoder


def test_five_maps_at_strides_2_to_32() -> None:
    encoder = LiteEncoder().eval()
    with torch.inference_mode():
        maps = encoder(torch.rand(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(CHANNELS, (2, 4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160)])
def test_it_computes_what_timm_does(height: int, width: int) -> None:
    torch.manual_seed(0)
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True).eval().double()
    for norm in reference.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(norm.weight, 0.5, 2)
            torch.nn.init.normal_(norm.bias, std=0.1)
    encoder = LiteEncoder().eval().double()
    convs = [m for m in reference.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in reference.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    own = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for mine, conv, norm in zip(own, convs, norms, strict=True):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            mine.weight.copy_(conv.weight * scale[:, None, None, None])
            mine.bias.copy_(norm.bias - norm.running_mean * scale)
        rgb = torch.rand(2, 3, height, width, dtype=torch.float64)
        expected = reference((rgb * 255 - 127) / 128)
        for maps, right in zip(encoder(rgb), expected, strict=True):
            assert maps.shape == right.shape
            torch.testing.assert_close(maps, right, rtol=1e-8, atol=1e-8)
