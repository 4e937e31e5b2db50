"""The compiled kernels do what torch's operations do, on every instruction set that is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from everything.config import Compute, Recipe
from everything.decoding import SharedImageDecoder, choose
from everything.decoding.backends.cpu_kernels import KernelImage, tiled, turned, upper
from everything.decoding.backends.torch_loop import LoopImage, TorchLoop
from everything.errors import ConfigError
from everything.kernels import loader
from everything.kernels.loader import INSTRUCTIONS, TILE

# Embeddings of less than a tile, of one tile exactly, of several and a part.
SHAPES = {
    "nano": (64, 8, (6, 9)),
    "a tile": (128, 4, (8, 8)),
    "sam": (256, 8, (13, 16)),
    "one head": (32, 1, (1, 1)),
    "deep heads": (96, 2, (9, 9)),
}
KINDS = {"point": [1], "box": [2, 3], "three points": [1, 0, -1]}


@pytest.fixture(params=INSTRUCTIONS)
def instructions(request: Any) -> Iterator[str]:
    loader.kernels.take(request.param)
    yield request.param
    loader.kernels.take(INSTRUCTIONS[0])


def prompts(ex: Any, kind: str, count: int) -> tuple[Tensor, Tensor]:
    labels = torch.tensor(KINDS[kind]).expand(count, -1)
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, labels.shape[1], 2, generator=generator) * ex.frame, labels


def candidates(ex: Any, kernels: str, question: Any, **prepared: Any) -> Any:
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder, kernels)
    return decoder.prepare(ex.embedding, **prepared).propose(*question)


def assert_same(found: Any, expected: Any, rows: Tensor) -> None:
    assert isinstance(found.image.side, KernelImage)
    assert isinstance(expected.image.side, LoopImage)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.scores, expected.scores, **close)
    torch.testing.assert_close(found.solved.tokens, expected.solved.tokens, **close)
    torch.testing.assert_close(found.solved.s1, expected.solved.s1, **close)
    torch.testing.assert_close(found.solved.s2, expected.solved.s2, **close)
    torch.testing.assert_close(found.draw(rows), expected.draw(rows), **close)


def test_the_kernels_are_built_where_tests_run() -> None:
    assert INSTRUCTIONS, "pip install -e '.[dev]' builds them: is there a C++ compiler?"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_they_do_what_torch_does(
    example: Any, instructions: str, shape: tuple[int, int, tuple[int, int]], kind: str
) -> None:
    ex = example(*shape)
    question = (*prompts(ex, kind, 19), True)
    rows = torch.tensor([56, 0, 1, 2, 30, 5, 5, 56])
    assert_same(candidates(ex, "fused", question), candidates(ex, "torch", question), rows)


@pytest.mark.parametrize("content", [(1, 1), (6, 5), (4, 9)])
def test_only_the_content_is_drawn(example: Any, content: tuple[int, int]) -> None:
    ex = example()
    question = (*prompts(ex, "point", 3), False)
    found, expected = (
        candidates(ex, kernels, question, content=content) for kernels in ("fused", "torch")
    )
    assert_same(found, expected, torch.arange(3))


def test_fine_features_are_added(example: Any, instructions: str) -> None:
    ex = example()
    question = (*prompts(ex, "point", 3), True)
    skip = torch.randn(4, 4 * 8, 54)
    found, expected = (
        candidates(ex, kernels, question, skip=skip) for kernels in ("fused", "torch")
    )
    assert_same(found, expected, torch.arange(9))


def test_outliers_cost_no_more_than_in_torch(example: Any, instructions: str) -> None:
    ex = example(256, 8, (12, 16))
    ex.embedding[:, ::50] *= 60
    with torch.no_grad():
        for layer in ex.mask_decoder.transformer.layers:
            layer.cross_attn_image_to_token.out_proj.weight *= 30
            layer.norm4.weight[::70] *= 20
    question = (*prompts(ex, "point", 5), True)
    truth = candidates(ex.double(), "auto", question).draw(torch.arange(15))
    error, of_torch = (
        (candidates(ex, kernels, question).draw(torch.arange(15)).double() - truth).abs().max()
        for kernels in ("fused", "torch")
    )
    assert error < 3 * of_torch


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_shares_of_prompts_in_threads_do_not_change_a_bit(
    example: Any, count: int, monkeypatch: Any
) -> None:
    ex = example()
    question, answers = (*prompts(ex, "point", count), True), []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        answers.append(candidates(ex, "fused", question).draw(torch.arange(3 * count)))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_nothing_is_drawn_of_no_rows(example: Any) -> None:
    ex = example()
    found = candidates(ex, "fused", (*prompts(ex, "point", 2), True))
    assert found.draw(torch.arange(0)).shape == (0, 24, 36)


def test_weights_that_are_not_numbers_stay_so(example: Any, instructions: str) -> None:
    ex = example()
    ex.embedding[0, 0, 2, 3] = float("nan")
    found = candidates(ex, "fused", (*prompts(ex, "point", 2), True))
    assert found.scores.isnan().all()


def test_what_they_do_not_serve_goes_through_torch(example: Any, monkeypatch: Any) -> None:
    ex = example()
    found = candidates(ex.double(), "auto", (*prompts(ex, "point", 1), True))
    assert isinstance(found.image.side, LoopImage)
    with pytest.raises(ConfigError, match="float64"):
        SharedImageDecoder.of(ex.prompt_encoder, ex.double().mask_decoder, "fused")
    for i in (2, 4):
        ex.mask_decoder.output_upscaling[i] = nn.GELU("tanh")
    with pytest.raises(ConfigError, match="exact GELU, not tanh"):
        choose(ex.prompt_encoder, ex.mask_decoder, kernels="fused")
    chosen = choose(ex.prompt_encoder, ex.mask_decoder)
    assert isinstance(chosen, SharedImageDecoder)
    assert isinstance(chosen.backend, TorchLoop)
    monkeypatch.setattr(loader, "kernels", None)
    with pytest.raises(ConfigError, match="compiler"):
        choose(ex.prompt_encoder, ex.mask_decoder, kernels="fused")


def test_the_setting_is_left_out_of_recipes_at_its_default() -> None:
    fields = {"variant": "nano", "sampler": {"name": "grid"}, "version": "1", "weights": ""}
    before = Recipe(**fields)
    assert "kernels" not in before.model_dump(mode="json")["compute"]
    other = before.model_copy(update={"compute": Compute(kernels="torch")})
    assert other.digest != before.digest
    assert Recipe(**other.model_dump(mode="json")) == other


def test_arrays_that_do_not_fit_are_refused(example: Any) -> None:
    ex = example()
    image = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder).prepare(ex.embedding)
    short = replace(image.side, first=[x[:, :1] for x in image.side.first])
    with pytest.raises(ValueError, match="array 0 has"):
        replace(image, side=short).propose(*prompts(ex, "point", 1), True)
    with pytest.raises(ValueError, match="has no"):
        loader.kernels.take("AVX-1024")


def test_tiles() -> None:
    x = torch.arange(2.0 * 3 * (TILE + 1)).view(2, 3, TILE + 1)
    found = tiled(x, 7)
    assert found.shape == (2, 2, 3, TILE)
    assert torch.equal(found[0], x[..., :TILE])
    assert torch.equal(found[1, ..., 0], x[..., TILE])
    assert (found[1, ..., 1:] == 7).all()
    values = turned(x)
    assert values.shape == (2, 2, TILE, 16)
    assert torch.equal(values[0, :, :, :3], x[..., :TILE].transpose(1, 2))
    assert not values[..., 3:].any()


def test_an_upper_triangle_is_the_same_form() -> None:
    G, a = torch.randn(1, 5, 5).double(), torch.randn(5).double()
    G = G + G.transpose(1, 2)
    assert torch.isclose(a @ upper(G)[0] @ a, a @ G[0] @ a)
    assert not torch.tril(upper(G)[0], -1).any()
