"""The shared-image decoder gives the plain decoder's answers, whatever it is asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from everything.decoding import (
    PlainDecoder,
    SharedCandidates,
    SharedImageDecoder,
    UnlikeSAM,
    choose,
    content_cells,
)
from everything.decoding.shared_image import NOT_DRAWN
from everything.decoding.transformer import CHUNK

KINDS = {
    "point": [1],
    "background point": [0],
    "box": [2, 3],
    "three points": [1, 0, 1],
    "points and padding": [1, 0, -1],
    "box and point": [2, 3, 1],
    "point, then box": [1, 2, 3],
}
SHAPES = {"sam": (256, 8), "half": (128, 4), "nano": (64, 8), "one head": (32, 1)}


def prompts(ex: Any, kind: str, count: int) -> tuple[Tensor, Tensor]:
    labels = torch.tensor(KINDS[kind]).expand(count, -1)
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, labels.shape[1], 2, generator=generator) * ex.frame, labels


def plain(ex: Any, *question: Any) -> Any:
    return PlainDecoder(ex.prompt_encoder, ex.mask_decoder).prepare(ex.embedding).propose(*question)


def shared(ex: Any, *question: Any) -> Any:
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder)
    return decoder.prepare(ex.embedding).propose(*question)


def all_of(candidates: Any) -> Tensor:
    return candidates.draw(torch.arange(len(candidates.scores)))


def assert_same(found: Any, expected: Any, atol: float) -> None:
    for name in ("prompt", "level", "identity"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=atol)
    torch.testing.assert_close(all_of(found), all_of(expected), rtol=0, atol=atol)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_the_plain_decoder_in_float64(
    example: Any, shape: tuple[int, int], kind: str, multimask: bool
) -> None:
    ex = example(*shape).double()
    question = (*prompts(ex, kind, 3), multimask)
    found = shared(ex, *question)
    assert isinstance(found, SharedCandidates)
    assert_same(found, plain(ex, *question), 1e-12)


@pytest.mark.parametrize("kind", ["point", "box", "three points"])
def test_in_float32_it_is_as_exact_as_the_plain_decoder(example: Any, kind: str) -> None:
    ex = example(256, 8, grid=(16, 16), mlp=2048)
    question = (*prompts(ex, kind, 5), True)
    truth = plain(ex.double(), *question)
    error, plain_error = (
        (all_of(answer).double() - all_of(truth)).abs().max()
        for answer in (shared(ex, *question), plain(ex, *question))
    )
    assert error < 2e-5
    assert error < 3 * plain_error


def test_outlier_channels_and_large_updates_cost_no_more_than_in_the_plain_decoder(
    example: Any,
) -> None:
    ex = example(256, 8, grid=(16, 16))
    ex.embedding[:, ::50] *= 60
    with torch.no_grad():
        for layer in ex.mask_decoder.transformer.layers:
            layer.cross_attn_image_to_token.out_proj.weight *= 30
            layer.norm4.weight[::70] *= 20
    question = (*prompts(ex, "point", 5), True)
    truth = all_of(plain(ex.double(), *question))
    error, plain_error = (
        (all_of(answer).double() - truth).abs().max()
        for answer in (shared(ex, *question), plain(ex, *question))
    )
    assert truth.std() > 0.05
    assert error < 5 * plain_error


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1])
def test_any_number_of_prompts(example: Any, count: int) -> None:
    ex = example().double()
    question = (*prompts(ex, "point", count), True)
    found = shared(ex, *question)
    assert found.scores.shape == (3 * count,)
    assert all_of(found).shape == (3 * count, 24, 36)
    if count:
        assert_same(found, plain(ex, *question), 1e-12)


def test_rows_are_drawn_in_the_order_asked_for_and_as_often(example: Any) -> None:
    ex = example().double()
    question = (*prompts(ex, "point", 4), True)
    rows = torch.tensor([11, 0, 5, 5, 4, 0])
    found, expected = shared(ex, *question).draw(rows), plain(ex, *question).draw(rows)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("content", [(4, 9), (6, 5), (1, 1)])
def test_only_the_content_is_drawn(example: Any, content: tuple[int, int]) -> None:
    ex = example().double()
    question = (*prompts(ex, "box", 2), True)
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder)
    candidates = decoder.prepare(ex.embedding, content).propose(*question)
    found, expected = all_of(candidates), all_of(plain(ex, *question))
    assert found.shape == expected.shape
    top, left = 4 * content[0], 4 * content[1]
    inside = found[:, :top, :left]
    torch.testing.assert_close(inside, expected[:, :top, :left], rtol=0, atol=1e-12)
    found[:, :top, :left] = NOT_DRAWN
    assert (found == NOT_DRAWN).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("content", [(1024, 768), (683, 1024), (1, 1024), (12, 9), (1024, 1024)])
def test_content_cells_hold_all_that_interpolation_looks_at(
    content: tuple[int, int], mode: str
) -> None:
    rows, columns = content_cells(content, (1024, 1024), (64, 64))
    logits = torch.zeros(1, 1, 256, 256)
    logits[..., 4 * rows :, :] = 1
    logits[..., 4 * columns :] = 1
    full = F.interpolate(logits, (1024, 1024), mode=mode, align_corners=False)
    assert not full[..., : content[0], : content[1]].any()
    assert rows - 1 <= -(-(content[0] + 8) // 16)


def test_content_beyond_the_embedding_is_refused(example: Any) -> None:
    ex = example()
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder)
    with pytest.raises(ValueError, match="content"):
        decoder.prepare(ex.embedding, (7, 9))


def test_images_do_not_disturb_each_other(example: Any) -> None:
    ex = example().double()
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder)
    embeddings = [ex.embedding, ex.embedding.flip(2) + 0.5]
    question = (*prompts(ex, "point", 3), True)
    alone = [all_of(decoder.prepare(e).propose(*question)) for e in embeddings]
    images = [decoder.prepare(e) for e in embeddings]
    candidates = [image.propose(*question) for image in images]
    for i in (1, 0):
        assert torch.equal(all_of(candidates[i]), alone[i])
        assert torch.equal(all_of(images[i].propose(*question)), alone[i])


def test_mask_prompts_are_answered_by_the_plain_decoder(example: Any) -> None:
    ex = example()
    question = (*prompts(ex, "point", 2), True, torch.randn(2, 1, 24, 36))
    assert_same(shared(ex, *question), plain(ex, *question), 0)


def test_prompts_of_different_layouts_are_refused(example: Any) -> None:
    ex = example()
    points, labels = torch.zeros(2, 2, 2), torch.tensor([[2, 3], [1, -1]])
    with pytest.raises(ValueError, match="decode the others separately"):
        shared(ex, points, labels, True)
    with pytest.raises(ValueError, match="must be"):
        shared(ex, points, labels[:, :1], True)


def test_the_decoder_is_chosen_by_structure(example: Any) -> None:
    ex = example()
    assert isinstance(choose(ex.prompt_encoder, ex.mask_decoder), SharedImageDecoder)
    assert isinstance(choose(ex.prompt_encoder, ex.mask_decoder, plain=True), PlainDecoder)
    ex.mask_decoder.transformer.layers.append(ex.mask_decoder.transformer.layers[1])
    assert isinstance(choose(ex.prompt_encoder, ex.mask_decoder), PlainDecoder)
    with pytest.raises(UnlikeSAM, match="the transformer has 3 layers, not 2"):
        SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder)
    with pytest.raises(UnlikeSAM, match="Linear"):
        SharedImageDecoder.of(ex.prompt_encoder, torch.nn.Linear(2, 2))
