"""Triton's kernels do what PyTorch's loops do; here in Triton's interpreter, on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from everything.decoding import SharedImageDecoder
from everything.decoding.backends.protocol import Limits
from everything.decoding.backends.triton_backend import TritonImage, TritonKernels
from tests.decoding.test_shared_image import prompts

pytest.importorskip("triton", reason="torch's wheel for this system comes without Triton")


SHAPES = {"nano": (64, 8, (6, 9)), "one head": (32, 1, (1, 1)), "deep heads": (96, 2, (3, 11))}


def both(ex: Any, question: Any, limits: Limits = Limits(), **prepared: Any) -> list[Any]:  # noqa: B008
    decoder = SharedImageDecoder.of(ex.prompt_encoder, ex.mask_decoder, "torch")
    image = decoder.prepare(ex.embedding, **prepared)
    side = TritonKernels.of(limits).image(image.parts, image.folded, image.image)
    return [each.propose(*question) for each in (image, replace(image, side=side))]


def assert_same(found: Any, expected: Any, rows: torch.Tensor) -> None:
    assert isinstance(found.image.side, TritonImage)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.scores, expected.scores, **close)
    torch.testing.assert_close(found.solved.tokens, expected.solved.tokens, **close)
    torch.testing.assert_close(found.solved.s1, expected.solved.s1, **close)
    torch.testing.assert_close(found.solved.s2, expected.solved.s2, **close)
    torch.testing.assert_close(found.draw(rows), expected.draw(rows), **close)


@pytest.mark.parametrize("kind", ["point", "box", "three points"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_they_do_what_torch_does(example: Any, shape: tuple[int, int, Any], kind: str) -> None:
    ex = example(*shape)
    expected, found = both(ex, (*prompts(ex, kind, 3), True))
    assert_same(found, expected, torch.tensor([8, 0, 1, 5, 5, 8]))


@pytest.mark.parametrize("content", [(1, 1), (4, 9)])
def test_content_fine_features_and_lots(example: Any, content: tuple[int, int]) -> None:
    ex = example()
    skip = torch.randn(4, 4 * 8, content[0] * content[1])
    question = (*prompts(ex, "point", 3), True)
    few = Limits(memory=2**17, prompts=2)
    expected, found = both(ex, question, few, content=content, skip=skip)
    assert_same(found, expected, torch.arange(9))


def test_no_prompts_and_no_rows(example: Any) -> None:
    ex = example()
    _, found = both(ex, (*prompts(ex, "point", 0), True))
    assert found.draw(torch.arange(0)).shape == (0, 24, 36)
    _, found = both(ex, (*prompts(ex, "point", 2), True))
    assert found.draw(torch.arange(0)).shape == (0, 24, 36)
