"""HQ-SAM's decoder with the image side shared, against its modules called as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from everything.decoding import HqDecoder, UnlikeSAM
from everything.decoding.backends.gpu_batched import TorchBatches
from everything.decoding.backends.protocol import Limits
from everything.decoding.hq import TOGETHER, HqCandidates, read_hq
from everything.variants.networks.hq_sam import HqMaskDecoder
from everything.variants.networks.sam import prompt_side

CELLS, EARLY, PROMPTS = (6, 6), 24, TOGETHER + 1
LABELS = {"point": [1], "box": [2, 3], "box and points": [2, 3, 1, 0]}


@dataclass(frozen=True)
class Example:
    prompt_encoder: Any
    mask_decoder: Any
    embedding: Tensor
    hq_features: Tensor

    def image(self, content: tuple[int, int] | None = None, **options: Any) -> Any:
        decoder = HqDecoder.of(self.prompt_encoder, self.mask_decoder, **options)
        return decoder.prepare(self.embedding, self.hq_features, content)


@pytest.fixture(scope="module")
def example() -> Example:
    """HQ-SAM's modules on 6 x 6 cells, random, in float64."""
    torch.manual_seed(5)
    prompt_encoder, _ = prompt_side(16 * CELLS[0])
    mask_decoder = HqMaskDecoder(EARLY).double().eval()
    for name, parameter in mask_decoder.named_parameters():
        if parameter.dim() == 1:
            parameter.data.normal_(float(name.endswith("weight")), 0.3)
    embedding, early = (torch.randn(1, n, *CELLS, dtype=torch.float64) for n in (256, EARLY))
    with torch.no_grad():
        hq_features = mask_decoder.of_image(embedding, early)
    made = Example(prompt_encoder.eval(), mask_decoder, embedding, hq_features)
    # Which of SAM's masks is the best should depend on the prompt.
    scores = ask(made.image(), "point", True)[0].sam.scores.view(PROMPTS, 3)
    mask_decoder.iou_prediction_head.layers[2].bias.data[1:] -= scores.mean(0)
    return made


def ask(image: Any, kind: str, multimask: bool) -> tuple[Any, Tensor]:
    labels = torch.tensor(LABELS[kind]).expand(PROMPTS, -1)
    points = torch.rand(*labels.shape, 2, generator=torch.Generator().manual_seed(1)) * 96
    candidates = image.propose(points, labels, multimask)
    return candidates, candidates.draw(torch.arange(len(candidates.scores)))


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("token_only", [True, False])
def test_it_is_the_plain_decoder(
    example: Example, kind: str, multimask: bool, token_only: bool
) -> None:
    (found, logits), (expected, truth) = (
        ask(example.image(token_only=token_only, plain=plain), kind, multimask)
        for plain in (False, True)
    )
    assert isinstance(found, HqCandidates)
    assert logits.abs().max() > 1
    torch.testing.assert_close(logits, truth, rtol=0, atol=1e-11)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-12)
    for name in ("prompt", "level", "identity"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_the_best_of_sams_masks_is_added(example: Example) -> None:
    candidates, both = ask(example.image(), "point", True)
    _, token = ask(example.image(token_only=True), "point", True)
    sam, slots = candidates.sam, candidates.slots
    assert len(slots.unique()) > 1
    assert torch.equal(candidates.scores, sam.scores.view(PROMPTS, 3).amax(1))
    best = sam.draw(3 * torch.arange(PROMPTS) + slots)
    torch.testing.assert_close(both - token, best, rtol=0, atol=1e-11)


def test_only_the_content_is_drawn(example: Example) -> None:
    _, found = ask(example.image((3, 5)), "point", True)
    _, truth = ask(example.image(plain=True), "point", True)
    torch.testing.assert_close(found[:, :12, :20], truth[:, :12, :20], rtol=0, atol=1e-11)
    assert (found[:, 12:] == -32).all()
    assert (found[:, :, 20:] == -32).all()


def test_rows_are_drawn_in_any_order(example: Example) -> None:
    candidates, logits = ask(example.image(), "point", True)
    rows = torch.tensor([3, 0, 3, 4, 1, 2])
    torch.testing.assert_close(candidates.draw(rows), logits[rows], rtol=0, atol=1e-12)
    assert candidates.draw(rows[:0]).shape == (0, 24, 24)


def test_no_prompts_have_no_masks(example: Example) -> None:
    nothing = torch.zeros(0, 1, 2), torch.zeros(0, 1, dtype=torch.int64)
    candidates = example.image().propose(*nothing, True)
    assert candidates.scores.shape == (0,)
    assert candidates.draw(torch.arange(0)).shape == (0, 24, 24)


def test_mask_prompts_are_the_plain_decoders(example: Example) -> None:
    points, labels = torch.rand(2, 1, 2) * 96, torch.ones(2, 1, dtype=torch.int64)
    masks = torch.randn(2, 1, 24, 24)
    found, expected = (
        example.image(plain=plain).propose(points, labels, False, masks) for plain in (False, True)
    )
    assert torch.equal(found.logits, expected.logits)


def test_batches_give_the_same(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend for accelerators."""
    from everything.decoding import shared_image

    _, truth = ask(example.image(), "box", True)
    monkeypatch.setattr(shared_image, "choose_backend", lambda *_: TorchBatches(Limits()))
    image = example.image()
    assert image.image.side.backend.in_bulk
    _, found = ask(image, "box", True)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-11)


def test_other_decoders_are_refused() -> None:
    _, sams = prompt_side(96)
    with pytest.raises(UnlikeSAM, match="embedding_maskfeature"):
        read_hq(sams)
    other = HqMaskDecoder(EARLY)
    other.embedding_maskfeature[2] = nn.ReLU()
    with pytest.raises(UnlikeSAM, match="refined by Conv2d, LayerNorm2d, ReLU, Conv2d"):
        read_hq(other)
