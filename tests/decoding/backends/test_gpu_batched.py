"""The form for accelerators does what the loops over prompts do, in float64 on this processor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from everything.decoding import SharedImageDecoder
from everything.decoding.backends.gpu_batched import BatchedImage, TorchBatches, filled
from everything.decoding.backends.protocol import Limits
from tests.decoding.test_shared_image import KINDS, SHAPES, prompts

LIMITS = Limits()


def both(
    ex: Any, question: Any, compiled: bool = False, limits: Limits = LIMITS, **prepared: Any
) -> list[Any]:
    """Candidate masks one prompt after the other, and in batches."""
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder, "torch")
    image = decoder.prepare(ex.embedding, **prepared)
    side = TorchBatches(limits, compiled).image(image.parts, image.folded, image.image)
    return [each.propose(*question) for each in (image, replace(image, side=side))]


def assert_same(found: Any, expected: Any, rows: torch.Tensor) -> None:
    assert isinstance(found.image.side, BatchedImage)
    exact = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(found.scores, expected.scores, **exact)
    torch.testing.assert_close(found.solved.s1, expected.solved.s1, **exact)
    torch.testing.assert_close(found.solved.s2, expected.solved.s2, **exact)
    torch.testing.assert_close(found.draw(rows), expected.draw(rows), **exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batches_do_what_loops_do(example: Any, shape: tuple[int, int], kind: str) -> None:
    ex = example(*shape).double()
    expected, found = both(ex, (*prompts(ex, kind, 5), True))
    assert_same(found, expected, torch.tensor([14, 0, 1, 2, 7, 7]))


def test_more_prompts_than_memory_holds_are_done_in_lots(example: Any) -> None:
    ex = example().double()
    count, few = 19, Limits(memory=2**20, prompts=7)
    expected, found = both(ex, (*prompts(ex, "point", count), True), limits=few)
    assert_same(found, expected, torch.arange(3 * count).flip(0))
    assert found.draw(torch.arange(0)).shape == (0, 24, 36)


@pytest.mark.parametrize("content", [(1, 1), (4, 9)])
def test_content_and_fine_features(example: Any, content: tuple[int, int]) -> None:
    ex = example().double()
    skip = torch.randn(4, 4 * 8, content[0] * content[1], dtype=torch.float64)
    question = (*prompts(ex, "point", 3), True)
    expected, found = both(ex, question, content=content, skip=skip)
    assert_same(found, expected, torch.arange(9))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_the_scores_and_the_drawing_are_one_graph_each(example: Any, graphs: list[Any]):
    ex = example().double()
    expected, found = both(ex, (*prompts(ex, "point", 5), True), compiled=True)
    assert_same(found, expected, torch.arange(15).flip(0))
    assert len(graphs) == 2
    # Other prompts, as many as fill the same batches, are the same graphs' work.
    for count in (7, 8):
        expected, found = both(ex, (*prompts(ex, "point", count), True), compiled=True)
        assert_same(found, expected, torch.arange(3 * count))
    assert len(graphs) == 2
    expected, found = both(ex, (*prompts(ex, "point", 1), True), compiled=True)
    assert_same(found, expected, torch.arange(3))
    assert len(graphs) == 4
    none = found.image.propose(*prompts(ex, "point", 0), True)
    assert none.draw(torch.arange(0)).shape == (0, 24, 36)


@pytest.mark.parametrize(("count", "full"), [(0, 0), (1, 1), (2, 2), (3, 4), (64, 64), (65, 128)])
def test_batches_are_filled_to_a_power_of_two(count: int, full: int):
    x = torch.ones(count, 3, 2)
    assert filled(x).shape == (full, 3, 2)
    assert torch.equal(filled(x)[:count], x)
    assert not filled(x)[count:].any()
