from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Size

from everything.benchmark import Report, bench, random_checkpoints
from everything.benchmark.random_weights import PASS_IOU, PASS_STABILITY, make, random_state
from everything.benchmark.types import Key
from everything.core.geometry import whole
from everything.core.prompts import Prompts
from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError
from everything.io.images.sources import Source
from everything.pipeline.pipeline import segment
from everything.recipes.build import load
from everything.variants import VARIANTS, VariantRecord
from everything.variants.checkpoints.weights import Weights
from tests.photos import photo
from tests.variants import synthetic
from tests.variants.tiny_transformers import sam3_vision

SMALL = VariantRecord(
    module="everything.variants.networks.sam",
    family="SAM",
    summary="",
    parameters=0,
    input_rule="",
    licence="",
    weights=Weights("https://example.org/no.pth"),
    options={
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "global_attn_indexes": (1,),
        "side": 256,
    },
)
# The decoder keeps its size.
SMALL_SAM3 = {
    "vision_config": sam3_vision(224) | {"fpn_hidden_size": 256},
    "prompt_encoder_config": {"image_size": 224},
}
AMG = Key("small", "grid-16", "segment-anything")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(photo("chelsea", 160)).save(folder / "chelsea.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "small", SMALL)
        return bench(
            [Source(str(folder), "chelsea.png")],
            ["small"],
            ["grid-16"],
            against=["segment-anything"],
            repeats=1,
            warmup=0,
            apart=False,
            memory=False,
            random_seed=0,
            sets=["sampler.points_per_side=8"],
        )


def test_weights_that_are_not_there_are_made_up(report: Report):
    assert [row.failure for row in report.rows()] == ["", ""]
    assert any("random weights (seed 0)" in note for note in report.notes)


def test_as_many_masks_survive_as_of_sams(report: Report):
    counts = report.rows()[0].counts
    assert counts["candidates"] == 3 * 64
    assert counts["promising"] / counts["candidates"] == pytest.approx(PASS_IOU, abs=0.06)
    assert counts["stable"] / counts["promising"] == pytest.approx(PASS_STABILITY, abs=0.15)
    assert 0.2 < counts["masks"] / counts["stable"] < 0.8


@pytest.mark.parametrize(
    "variant", ["sam2.1-hiera-t", "efficientsam-ti", "sam-hq-vit-b", "edgetam", "edgesam", "sam3"]
)
def test_so_do_those_of_other_decoders(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    image, checkpoint = photo("chelsea", 160), _made(variant, tmp_path, monkeypatch)
    timer = StageTimer()
    found = segment(image, load(variant, "grid", checkpoint=checkpoint, points_per_side=16), timer)
    counts = timer.counts
    # HQ-SAM makes one mask of a click's three; EdgeSAM's score is the stability.
    assert counts["candidates"] == (256 if variant.startswith("sam-hq") else 3 * 256)
    share = counts["stable"] / counts["candidates"]
    assert share == pytest.approx(PASS_IOU * PASS_STABILITY, abs=0.05)
    if variant != "edgesam":
        assert counts["promising"] / counts["candidates"] == pytest.approx(PASS_IOU, abs=0.05)
    shares = found.masks.mean((1, 2))
    assert 0.001 < shares.min() < 0.05 < 0.1 < shares.max() < 0.9


@pytest.mark.parametrize("variant", ["sam-vit-b", "sam2.1-hiera-t", "efficientsam-ti"])
@torch.inference_mode()
def test_masks_lie_around_their_prompts(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    image, checkpoint = photo("chelsea", 160), _made(variant, tmp_path, monkeypatch)
    view, model = whole(image), load(variant, "grid", checkpoint=checkpoint).model
    frame, features = model.frame(view.size), model.encode(view)

    def masks(prompts: torch.Tensor, kind: Callable[[torch.Tensor], Prompts]) -> torch.Tensor:
        clicks = kind is Prompts.clicks
        asked = kind(frame.to_canvas(prompts.reshape(-1, 2)).reshape(prompts.shape))
        found = model.propose(features, asked, clicks)
        logits = found.draw(torch.arange(len(found.scores)))
        return (frame.to_view(logits) > 0).unflatten(0, (len(prompts), -1))

    clicks = torch.tensor([[40.0, 30.0], [110.0, 80.0], [20.0, 90.0]], dtype=torch.float64)
    found = masks(clicks, Prompts.clicks)
    for (x, y), levels in zip(clicks.long().tolist(), found, strict=True):
        assert levels[:, y, x].all()
        areas = levels.sum((1, 2))
        assert (areas.diff() > 0).all()
    boxes = torch.tensor(
        [[20.0, 20.0, 80.0, 80.0], [70.0, 10.0, 150.0, 100.0], [90.0, 30.0, 110.0, 60.0]],
        dtype=torch.float64,
    )
    tiny = torch.cat([clicks - 1, clicks + 1], 1)
    assert 0 < masks(tiny, Prompts.boxes).float().mean((2, 3)).max() < 0.01
    assert masks(tiny, Prompts.boxes).flatten(1).any(1).all()
    for box, mask in zip(boxes, masks(boxes, Prompts.boxes)[:, 0], strict=True):
        y, x = mask.nonzero().double().mean(0)
        middle, (width, height) = (box[:2] + box[2:]) / 2, (box[2:] - box[:2])
        assert (torch.stack([x, y]) - middle).abs().max() < 0.1 * max(width, height)
        assert 0.5 < mask.sum() / (width * height) < 1.2


def _made(variant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of a small network of the variant's kind."""
    if variant == "sam3":
        monkeypatch.setitem(random_checkpoints.SETTINGS, variant, SMALL_SAM3)
        return make(variant, 0, [photo("chelsea", 160)], folder).checkpoint
    small = replace(VARIANTS[variant], options=synthetic.options(variant, small=True))
    monkeypatch.setitem(VARIANTS, variant, small)
    return make(variant, 0, [photo("chelsea", 160)], folder).checkpoint


def test_sam3_is_a_case_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(random_checkpoints.SETTINGS, "sam3", SMALL_SAM3)
    Image.fromarray(photo("chelsea", 160)).save(tmp_path / "chelsea.png")
    report = bench(
        [Source(str(tmp_path), "chelsea.png")], ["sam3"], ["grid", "hierarchical"],
        repeats=1, warmup=0, apart=False, memory=False, random_seed=0,
        sets=["sampler.points_per_side=4"],
    )  # fmt: skip
    assert [row.failure for row in report.rows()] == ["", ""]
    assert report.rows()[0].counts["candidates"] == 3 * 16
    assert any(note.startswith("sam3: random weights (seed 0)") for note in report.notes)


def test_a_peer_with_the_same_weights_finds_the_same_masks(report: Report):
    ours, theirs = report.rows()
    assert theirs.key == AMG
    assert report.agreement[AMG].same == 1
    for count in ("prompts", "candidates", "masks"):
        assert ours.counts[count] == theirs.counts[count]


def test_the_same_seed_gives_the_same_weights():
    shapes = {
        "a.weight": Size((64, 128)),
        "norm.weight": Size((64,)),
        "norm.bias": Size((64,)),
        "norm.running_var": Size((64,)),
        "norm.num_batches_tracked": Size(()),
        "mask_tokens.weight": Size((4, 256)),
    }
    one, again, other = (random_state(shapes, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in shapes)
    assert not torch.equal(one["a.weight"], other["a.weight"])
    assert {name: tensor.shape for name, tensor in one.items()} == shapes
    # Products keep the size of what passes through them.
    assert (torch.ones(128) @ one["a.weight"].T).std() == pytest.approx(1, rel=0.3)
    assert one["norm.weight"].unique().tolist() == one["norm.running_var"].unique().tolist() == [1]
    assert not one["norm.bias"].any()


def test_variants_without_sams_decoder_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="ucm"):
        make("ucm", 0, [np.zeros((8, 8, 3), np.uint8)], tmp_path)
