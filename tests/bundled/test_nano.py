import pytest
import torch
from torch import Tensor

from everything.bundled.boundary_net import BoundaryNet, BoundaryNetwork
from everything.bundled.nano import (
    CELL,
    GRID,
    SIDE,
    WIDTH,
    Nano,
    NanoEncoder,
    NanoFeatures,
    NanoPrompts,
)
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet


@pytest.fixture(scope="module", params=["none", "lite0"])
def nano(request: pytest.FixtureRequest) -> Nano:
    torch.manual_seed(0)
    return Nano(request.param).eval()


@pytest.fixture(scope="module")
def features(nano: Nano) -> NanoFeatures:
    torch.manual_seed(1)
    with torch.no_grad():
        return nano.image_encoder(torch.rand(1, 3, 96, 128))


def test_a_photo_becomes_a_square_embedding_that_is_zero_on_padding(features: NanoFeatures) -> None:
    assert features.embedding.shape == (1, WIDTH, *GRID)
    assert features.detail.shape == (1, 40, 24, 32)
    assert features.cells == (6, 8)
    assert bool((features.embedding[..., :6, :8].abs().sum(1) > 0).all())
    assert features.embedding[..., 6:, :].abs().sum() == 0
    assert features.embedding[..., 8:].abs().sum() == 0


@pytest.mark.parametrize("size", [(100, 128), (SIDE + 32, 128)])
def test_sides_must_fit(nano: Nano, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sides must be"):
        nano.image_encoder(torch.rand(1, 3, *size))


@pytest.mark.parametrize(
    ("backbone", "network"), [("none", BoundaryNet), ("lite0", PretrainedBoundaryNet)]
)
def test_the_trunk_is_the_boundary_network_without_what_makes_boundaries(
    backbone: str, network: type[BoundaryNetwork]
) -> None:
    whole = network().state_dict()
    trunk = NanoEncoder(backbone).trunk.state_dict()
    assert {name: value.shape for name, value in trunk.items()}.items() <= {
        name: value.shape for name, value in whole.items()
    }.items()
    left = {name.split(".")[0] for name in whole.keys() - trunk.keys()}
    assert left == {"up2", "boundary", "affinity"}


def tokens(
    nano: Nano, features: NanoFeatures, points: list[list[list[float]]], labels: list[int]
) -> Tensor:
    prompts: NanoPrompts = nano.prompt_encoder
    with torch.no_grad():
        return prompts.tokens(features, torch.tensor(points), torch.tensor([labels] * len(points)))


def test_a_click_brings_what_is_there(nano: Nano, features: NanoFeatures) -> None:
    here, there = torch.tensor([[[40.0, 40.0]], [[90.0, 30.0]]]).tolist()
    other = NanoFeatures(features.embedding.clone(), features.detail.clone())
    other.embedding[..., 40 // CELL, 40 // CELL] += 1
    before, after = (
        tokens(nano, features, [here, there], [1]),
        tokens(nano, other, [here, there], [1]),
    )
    assert before.shape == (2, 3, WIDTH)  # the click, SAM's padding point, the look
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[0, 2], after[0, 2])
    assert torch.equal(before[1, 2], after[1, 2])


def test_sams_own_tokens_are_sams(nano: Nano, features: NanoFeatures) -> None:
    points, labels = torch.tensor([[[40.0, 40.0]]]), torch.ones(1, 1)
    sparse, _ = nano.prompt_encoder((points, labels), None, None)
    assert torch.equal(tokens(nano, features, points.tolist(), [1])[:, :2], sparse)


def test_a_box_brings_one_look_at_its_centre(nano: Nano, features: NanoFeatures) -> None:
    box = tokens(nano, features, [[[20.0, 20.0], [60.0, 40.0]]], [2, 3])
    assert box.shape == (1, 3, WIDTH)
    centre = tokens(nano, features, [[[40.0, 30.0]]], [1])
    kinds = nano.prompt_encoder.kinds.weight
    torch.testing.assert_close(box[0, 2] - kinds[2], centre[0, 2] - kinds[1])


def test_padding_says_nothing_of_its_place(nano: Nano, features: NanoFeatures) -> None:
    a = tokens(nano, features, [[[40.0, 40.0], [0.0, 0.0]]], [1, -1])
    b = tokens(nano, features, [[[40.0, 40.0], [99.0, 9.0]]], [1, -1])
    assert torch.equal(a, b)


def test_points_beside_the_photo_have_the_looks_of_its_edge(
    nano: Nano, features: NanoFeatures
) -> None:
    assert bool(tokens(nano, features, [[[-50.0, 40.0]], [[511.0, 511.0]]], [1]).isfinite().all())


def test_attention_begins_at_the_place_that_was_clicked(nano: Nano) -> None:
    prompts: NanoPrompts = nano.prompt_encoder
    attention = nano.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    click = torch.tensor([[[200.0, 120.0]]])
    with torch.no_grad():
        code = prompts.pe_layer.forward_with_coords(click, (SIDE, SIDE))
        q = attention.q_proj(code)[0]
        k = attention.k_proj(prompts.get_dense_pe()[0].flatten(1).T)
    row, column = divmod(int((q @ k.T).argmax()), GRID[1])
    assert abs(row - 120 / CELL) <= 1
    assert abs(column - 200 / CELL) <= 1
