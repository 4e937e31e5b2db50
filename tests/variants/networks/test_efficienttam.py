from __future__ import annotations

import pytest
import torch
from transformers import VitDetConfig, VitDetModel

from everything.config import Decoding
from everything.core.geometry import whole
from everything.core.prompts import Prompts
from everything.variants.networks import efficienttam
from tests.photos import photo
from tests.variants.synthetic import blueprint, checkpoint, options

NAME = "efficienttam-ti"
CLICKS = Prompts.clicks(torch.tensor([[30.0, 40.0], [200.0, 90.0]]))
BOXES = Prompts.boxes(torch.tensor([[20.0, 30.0, 180.0, 200.0]]))


@torch.inference_mode()
def test_its_encoder_is_transformers_vitdet() -> None:
    plan = blueprint(NAME, small=True)
    encoder = plan.load(checkpoint(plan), "synthetic").vision_encoder.eval()
    config = VitDetConfig(
        hidden_size=192,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=256,
        pretrain_image_size=224,
        window_size=14,
        window_block_indices=[0],
        use_absolute_position_embeddings=True,
    )
    other = VitDetModel(config).eval()
    own = dict(encoder.state_dict())
    for theirs, ours in (
        ("position_embeddings", "pos_embed"),
        ("projection", "patch_embed.proj"),
        ("layer", "blocks"),
        ("attention", "attn"),
        ("fc1", "lin1"),
        ("fc2", "lin2"),
    ):
        own = {name.replace(ours, theirs): value for name, value in own.items()}
    state = {
        name: own[name.removeprefix("embeddings.").removeprefix("encoder.")]
        for name in other.state_dict()
    }
    other.load_state_dict(state)
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    expected = encoder.neck(other(pixels).last_hidden_state)
    assert torch.allclose(encoder(pixels), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize("prompts", [CLICKS, BOXES], ids=["clicks", "boxes"])
@pytest.mark.parametrize("several", [True, False])
@torch.inference_mode()
def test_the_shared_image_decoder_is_exact(prompts: Prompts, several: bool) -> None:
    state, view = checkpoint(blueprint(NAME, small=True)), whole(photo("chelsea", 160))
    shared, plain = (
        efficienttam.build(
            dict(state), "x", decoding=Decoding(decoder=decoder), **options(NAME, small=True)
        )
        for decoder in ("shared-image", "plain")
    )
    assert shared.decoder is not None
    assert plain.decoder is None
    found, expected = (m.propose(m.encode(view), prompts, several) for m in (shared, plain))
    rows = torch.arange(len(expected.scores))
    assert torch.allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
    assert torch.allclose(found.draw(rows), expected.draw(rows), rtol=0, atol=1e-4)
    assert expected.draw(rows).std() > 0.1
