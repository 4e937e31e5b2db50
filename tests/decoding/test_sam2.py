"""SAM 2's decoder with the image side shared, against transformers' modules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from everything.core import mask_ops
from everything.decoding import SharedCandidates, UnlikeSAM
from everything.decoding.backends.gpu_batched import TorchBatches
from everything.decoding.backends.protocol import Limits
from everything.decoding.sam2 import PlainSam2Image, SharedSam2Decoder, read_sam2
from everything.decoding.shared_image import ChosenCandidates

LABELS = {"point": [1], "box": [2, 3], "box and points": [2, 3, 1, 0]}


@dataclass(frozen=True)
class Sam2:
    prompt_encoder: Any
    mask_decoder: Any
    position: Tensor
    embedding: Tensor
    skips: tuple[Tensor, Tensor]

    def plain(self) -> PlainSam2Image:
        parts = self.prompt_encoder, self.mask_decoder, self.position
        return PlainSam2Image(*parts, self.embedding, self.skips)

    def shared(self, content: tuple[int, int] | None = None) -> Any:
        parts = self.prompt_encoder, self.mask_decoder, self.position
        return SharedSam2Decoder.of(*parts).prepare(self.embedding, self.skips, content)


@pytest.fixture
def sam2() -> Sam2:
    """SAM 2's modules of width 64 on 6 x 6 cells, random, in float64."""
    from transformers.models.sam2 import modeling_sam2 as hf
    from transformers.models.sam2.configuration_sam2 import (
        Sam2MaskDecoderConfig,
        Sam2PromptEncoderConfig,
    )

    torch.manual_seed(3)
    prompt_encoder = hf.Sam2PromptEncoder(
        Sam2PromptEncoderConfig(hidden_size=64, image_size=96, patch_size=16)
    )
    config = Sam2MaskDecoderConfig(
        hidden_size=64, mlp_dim=96, num_attention_heads=4, iou_head_hidden_dim=64
    )
    config._attn_implementation = "sdpa"  # the eager one rounds to float32
    mask_decoder = hf.Sam2MaskDecoder(config).double()
    for name, parameter in mask_decoder.named_parameters():
        if "norm" in name:
            parameter.data.normal_(float("weight" in name), 0.3)
    shapes = (1, 64, 6, 6), (1, 64, 6, 6), (1, 8, 24, 24), (1, 16, 12, 12)
    position, embedding, s0, s1 = (torch.randn(*s, dtype=torch.float64) for s in shapes)
    return Sam2(prompt_encoder.eval(), mask_decoder.eval(), position, embedding, (s0, s1))


def ask(image: Any, kind: str, multimask: bool, *masks: Tensor) -> tuple[Any, Tensor]:
    labels = torch.tensor(LABELS[kind]).expand(3, -1)
    points = torch.rand(*labels.shape, 2, generator=torch.Generator().manual_seed(1)) * 96
    candidates = image.propose(points, labels, multimask, *masks)
    return candidates, candidates.draw(torch.arange(len(candidates.scores)))


@pytest.mark.parametrize("kind", LABELS)
def test_it_is_the_plain_decoder(sam2: Sam2, kind: str) -> None:
    (found, logits), (expected, truth) = (
        ask(image, kind, True) for image in (sam2.shared(), sam2.plain())
    )
    assert isinstance(found, SharedCandidates)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, truth, rtol=0, atol=1e-12)


def test_only_the_content_is_drawn(sam2: Sam2) -> None:
    _, found = ask(sam2.shared((4, 5)), "point", True)
    _, truth = ask(sam2.plain(), "point", True)
    torch.testing.assert_close(found[:, :16, :20], truth[:, :16, :20], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("enough", [None, 0.0, "some", 1.1])
def test_single_answers(sam2: Sam2, enough: float | str | None, kind: str) -> None:
    decoder = sam2.mask_decoder
    decoder.dynamic_multimask_via_stability = False
    _, first = ask(sam2.plain(), kind, False)
    if enough is not None:
        decoder.dynamic_multimask_via_stability = True
        decoder.dynamic_multimask_stability_delta = 0.3
        if enough == "some":
            enough = float(mask_ops.stability(first, 0.3).median())
        decoder.dynamic_multimask_stability_thresh = enough
    found, logits = ask(sam2.shared(), kind, False)
    expected, truth = ask(sam2.plain(), kind, False)
    assert isinstance(found, SharedCandidates if enough is None else ChosenCandidates)
    torch.testing.assert_close(logits, truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-12)
    for name in ("prompt", "level", "identity"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    kept = [torch.equal(one, other) for one, other in zip(first, truth, strict=True)]
    if enough in (None, 0.0):
        assert all(kept)
    elif enough == 1.1:
        assert not any(kept)
    else:
        assert any(kept)
        assert not all(kept)


def test_mask_prompts_are_answered_by_the_plain_decoder(sam2: Sam2) -> None:
    masks = torch.randn(3, 1, 24, 24)
    _, found = ask(sam2.shared(), "point", True, masks)
    _, one = ask(sam2.plain(), "point", True)
    assert found.shape == one.shape
    assert not torch.allclose(found, one)


def test_another_structure_is_refused(sam2: Sam2) -> None:
    with pytest.raises(UnlikeSAM, match="Linear"):
        read_sam2(torch.nn.Linear(2, 2))
    sam2.mask_decoder.activation = torch.nn.ReLU()
    with pytest.raises(UnlikeSAM, match="ReLU"):
        read_sam2(sam2.mask_decoder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_batches_are_one_graph_each(sam2: Sam2, graphs: list[Any]):
    image = sam2.shared()
    backend = TorchBatches(Limits(), compiled=True)
    side = backend.image(image.parts, image.folded, image.image)
    (expected, truth), (found, logits) = (
        ask(each, "box and points", True) for each in (image, replace(image, side=side))
    )
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, truth, rtol=0, atol=1e-12)
    assert len(graphs) == 2
