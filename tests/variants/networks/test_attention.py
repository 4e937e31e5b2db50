from __future__ import annotations

from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import nn

from everything.variants.networks import attention
from everything.variants.networks.attention import FusedAttention, fuse, unfuse
from tests.pretended import GPU, switched_on


def lively(module: nn.Module) -> nn.Module:
    """Positions are zero at first, which would hide a mistake in them."""
    torch.manual_seed(0)
    for name, weight in module.named_parameters():
        if "pos" in name:
            nn.init.normal_(weight, std=0.5)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 4), (2, 3, 7), (1, 1, 1)])
@pytest.mark.parametrize("room", [16 * 2**20, 600, 1])
def test_it_is_segment_anythings_attention(
    shape: tuple[int, int, int], room: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attention, "BIAS_BYTES", room)
    batch, height, width = shape
    make = {"dim": 24, "num_heads": 3, "use_rel_pos": True, "input_size": (height, width)}
    theirs = lively(Attention(**make)).double()
    ours = FusedAttention(**make).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, height, width, 24, dtype=torch.float64)
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)


@torch.inference_mode()
def test_a_gpu_gets_few_launches():
    make = {"dim": 24, "num_heads": 3, "use_rel_pos": True, "input_size": (40, 40)}
    ours = lively(FusedAttention(**make))
    x = torch.randn(1, 40, 40, 24)
    expected = ours(x)
    assert attention.BIAS_BYTES < 3 * 40**4 * 4
    with switched_on() as gpu:
        there = ours.to(GPU)
        x = x.to(GPU)
        gpu.launches.clear()
        with gpu.counting() as waits:
            found = there(x)
    assert not waits
    assert gpu.launches["aten.scaled_dot_product_attention"] == 1  # of two parts here
    assert gpu.launches["aten.flip"] == 2
    # Before: 4 for each of the two, and 3 for each part.
    assert gpu.launches.total() == 12
    torch.testing.assert_close(found.numbers, expected)


def test_positions_are_interpolated_where_the_map_has_another_size():
    make = {"dim": 8, "num_heads": 2, "use_rel_pos": True}
    theirs, ours = (
        kind(**make, input_size=(4, 4)).double() for kind in (Attention, FusedAttention)
    )
    ours.load_state_dict(lively(theirs).state_dict())
    x = torch.randn(1, 6, 6, 8, dtype=torch.float64)
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)


def encoder() -> ImageEncoderViT:
    return ImageEncoderViT(
        img_size=256,
        embed_dim=48,
        depth=2,
        num_heads=3,
        out_chans=16,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    )


def test_an_encoder_is_the_same_and_can_be_undone():
    plain = lively(encoder())
    pixels = torch.randn(1, 3, 256, 256)
    before = plain(pixels)
    held = {name: weight.data_ptr() for name, weight in plain.named_parameters()}
    fuse(plain)
    assert {type(block.attn) for block in plain.blocks} == {FusedAttention}
    after = plain(pixels)
    assert torch.allclose(after, before, atol=1e-5 * before.abs().max())
    assert not torch.equal(after, before)
    unfuse(plain)
    assert torch.equal(plain(pixels), before)
    # No weight was copied.
    assert held == {name: weight.data_ptr() for name, weight in plain.named_parameters()}


def test_attention_without_positions_is_the_same():
    theirs = lively(Attention(24, 3)).double()
    ours = FusedAttention(24, 3).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 7, 24, dtype=torch.float64)
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)
    plain = encoder()
    plain.blocks[0].attn = Attention(48, 3)
    fuse(plain)
    assert type(plain.blocks[0].attn) is FusedAttention
