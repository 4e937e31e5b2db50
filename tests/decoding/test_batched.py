"""The form for accelerators does what the loops over prompts do, in float64 on this processor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from everything.decoding import SharedImageDecoder
from everything.decoding.batched import DRAWN_TOGETHER, BatchedSide
from tests.decoding.test_shared import KINDS, SHAPES, prompts


def both(ex: Any, question: Any, **prepared: Any) -> list[Any]:
    """Drafts one prompt after the other, and in batches."""
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder, "torch")
    image = decoder.prepare(ex.embedding, **prepared)
    side = BatchedSide(image.folded, image.parts.upscaling, image.image)
    return [each.propose(*question) for each in (image, replace(image, side=side))]


def assert_same(found: Any, expected: Any, rows: torch.Tensor) -> None:
    assert isinstance(found.image.side, BatchedSide)
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


def test_more_prompts_than_are_drawn_together(example: Any) -> None:
    ex = example().double()
    count = DRAWN_TOGETHER + 3
    expected, found = both(ex, (*prompts(ex, "point", count), True))
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
def test_the_passes_and_the_drawing_are_one_graph_each(
    example: Any, monkeypatch: pytest.MonkeyPatch
):
    """Nothing in them leaves the graph, which torch.compile and CUDA graphs need."""
    ex = example().double()
    question = (*prompts(ex, "point", 5), True)
    rows = torch.tensor([14, 0, 1, 2, 7, 7])
    expected, _ = both(ex, question)
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    for name in ("first_pass", "second_pass", "_features"):
        whole = torch.compile(getattr(BatchedSide, name), fullgraph=True, backend=backend)
        monkeypatch.setattr(BatchedSide, name, whole)
    _, found = both(ex, question)
    assert_same(found, expected, rows)
    assert len(graphs) == 3
    torch.compiler.reset()
