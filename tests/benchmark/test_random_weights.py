from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Size

from everything.benchmark import Report, bench
from everything.benchmark.random_weights import PASS_IOU, PASS_STABILITY, make, random_state
from everything.benchmark.types import Key
from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError
from everything.io.images.sources import Source
from everything.pipeline.pipeline import segment
from everything.recipes.build import load
from everything.variants import VARIANTS, VariantRecord
from everything.variants.checkpoints.weights import Weights
from tests.photos import photo
from tests.variants import synthetic

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


def test_as_many_masks_survive_as_were_asked_for(report: Report):
    counts = report.rows()[0].counts
    assert counts["candidates"] == 3 * 64
    assert counts["promising"] / counts["candidates"] == pytest.approx(PASS_IOU, abs=0.1)
    assert counts["stable"] / counts["promising"] == pytest.approx(PASS_STABILITY, abs=0.15)
    assert counts["masks"] > 0


@pytest.mark.parametrize("variant", ["sam2-hiera-t", "efficientsam-ti", "sam-hq-vit-b", "edgetam"])
def test_so_do_those_of_other_decoders(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = replace(VARIANTS[variant], options=synthetic.options(variant, small=True))
    monkeypatch.setitem(VARIANTS, variant, small)
    image = photo("chelsea", 160)
    made = make(variant, 0, [image], tmp_path)
    pipeline = load(
        variant, "grid", checkpoint=made.checkpoint, points_per_side=8, **made.thresholds(1.0)
    )
    timer = StageTimer()
    assert segment(image, pipeline, timer).rles
    counts = timer.counts
    # HQ-SAM makes one mask of a click's three: its shares are of fewer.
    merged = variant.startswith("sam-hq")
    assert counts["candidates"] == (64 if merged else 3 * 64)
    near = pytest.approx(PASS_IOU, abs=0.06 if merged else 0.02)
    assert counts["promising"] / counts["candidates"] == near
    assert counts["stable"] / counts["promising"] == pytest.approx(PASS_STABILITY, abs=0.1)


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
