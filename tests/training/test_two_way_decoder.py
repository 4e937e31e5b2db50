import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer

from everything.training.two_way_decoder import assemble, decode_prompts

WIDTH, ROWS, COLUMNS = 32, 5, 7


@pytest.fixture
def decoder() -> MaskDecoder:
    torch.manual_seed(0)
    transformer = TwoWayTransformer(2, WIDTH, num_heads=4, mlp_dim=48)
    return MaskDecoder(
        transformer_dim=WIDTH, transformer=transformer, iou_head_hidden_dim=WIDTH
    ).double()


@pytest.mark.parametrize("prompts", [1, 3])
def test_it_is_the_same_function_with_the_same_gradient(decoder: MaskDecoder, prompts: int) -> None:
    image = torch.randn(1, WIDTH, ROWS, COLUMNS, dtype=torch.double, requires_grad=True)
    position = torch.randn(1, WIDTH, ROWS, COLUMNS, dtype=torch.double)
    sparse = torch.randn(prompts, 3, WIDTH, dtype=torch.double)
    expected, expected_scores = decoder.predict_masks(image, position, sparse, torch.zeros(1))
    flat = [x[0].flatten(1).T for x in (image, position)]
    logits, scores = decode_prompts(decoder, flat[0], flat[1], sparse)
    maps = assemble(logits, (ROWS, COLUMNS))
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(scores, expected_scores)
    weights = torch.randn_like(maps)
    wanted = torch.autograd.grad((expected * weights).sum() + expected_scores.sum(), image)
    found = torch.autograd.grad((maps * weights).sum() + scores.sum(), image)
    torch.testing.assert_close(found, wanted)


def test_only_the_cells_that_are_wanted_are_drawn(decoder: MaskDecoder) -> None:
    image, position = torch.randn(2, ROWS * COLUMNS, WIDTH, dtype=torch.double)
    sparse = torch.randn(2, 3, WIDTH, dtype=torch.double)
    some = torch.tensor([3, 0, 30])
    everywhere, _ = decode_prompts(decoder, image, position, sparse)
    there, _ = decode_prompts(decoder, image, position, sparse, some)
    torch.testing.assert_close(there, everywhere[:, :, some])


def test_details_reach_the_mask_features_where_they_belong(decoder: MaskDecoder) -> None:
    image, position = torch.randn(2, ROWS * COLUMNS, WIDTH, dtype=torch.double)
    sparse = torch.randn(1, 3, WIDTH, dtype=torch.double)
    skip = torch.zeros(ROWS * COLUMNS, 4, 4, WIDTH // 8, dtype=torch.double)
    # Cell (1, 2), row 1 and column 0 of the first step, row 0 and column 1 of the second.
    skip[COLUMNS + 2, 2, 1] = 5.0
    plain, _ = decode_prompts(decoder, image, position, sparse)
    moved, _ = decode_prompts(decoder, image, position, sparse, skip=skip)
    changed = assemble(moved - plain, (ROWS, COLUMNS))[0].abs().amax(0) > 0
    assert changed.nonzero().tolist() == [[4 * 1 + 2 + 0, 4 * 2 + 0 + 1]]
