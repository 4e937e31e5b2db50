"""The whole benchmark on the fitted small SAM and two small photos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everything.benchmark import Report, bench, run
from everything.benchmark.interleaved_runs import OOM
from everything.benchmark.output.report_files import save_tables
from everything.benchmark.output.report_tables import markdown
from everything.benchmark.types import Key
from everything.errors import ConfigError, InputError
from everything.io.images.sources import Source
from tests.benchmark.cases import build_blobs, build_faulty, build_hungry
from tests.photos import photo
from tests.variants.tiny_transformers import save

FILTERS = ("filters.pred_iou_thresh=0.91", "filters.stability_score_thresh=0.905")
SETS = ("sampler.points_per_side=5", "nms.box_nms_thresh=0.4", *FILTERS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea", "rocket"):
        Image.fromarray(photo(name, 96)).save(folder / f"{name}.png")
    return [Source(str(folder), f"{name}.png") for name in ("chelsea", "rocket")]


@pytest.fixture(scope="module")
def report(photos: list[Source]) -> Report:
    return bench(
        photos,
        ["sam-vit-b"],
        ["grid", "hierarchical", "boxes-3"],
        against=["segment-anything", "transformers"],
        repeats=2,
        warmup=0,
        thread_count=1,
        apart=False,
        memory=False,
        flops=True,
        sets=SETS,
        build=build_blobs,
    )


def test_every_contender_has_done_every_photo_in_every_round(report: Report):
    keys = [Key("sam-vit-b", s) for s in ("grid", "hierarchical", "boxes-3")]
    keys[1:1] = [Key("sam-vit-b", "grid", by) for by in ("segment-anything", "transformers")]
    assert [row.key for row in report.rows()] == keys
    assert all(row.samples == 4 and not row.failure for row in report.rows())
    assert report.machine["threads"] == 1


def test_survival_is_counted_from_prompts_to_masks(report: Report):
    rows = {row.key: row.counts for row in report.rows()}
    grid = rows[Key("sam-vit-b", "grid")]
    assert (grid["prompts"], grid["decoder_calls"], grid["candidates"]) == (25, 1, 75)
    assert 75 > grid["promising"] > grid["stable"] > grid["masks"] > 0
    assert rows[Key("sam-vit-b", "boxes-3")]["prompts"] == 3


@pytest.mark.parametrize(("peer", "least"), [("segment-anything", 1.0), ("transformers", 0.9)])
def test_peers_find_our_masks_and_ask_as_much(report: Report, peer: str, least: float):
    rows = {row.key: row for row in report.rows()}
    ours, theirs = (rows[Key("sam-vit-b", "grid", by)] for by in ("everything", peer))
    for count in ("prompts", "decoder_calls", "candidates"):
        assert ours.counts[count] == theirs.counts[count]
    assert theirs.counts["masks"] == pytest.approx(ours.counts["masks"], rel=0.1)
    assert theirs.seconds["encode"] > 0
    assert theirs.seconds["decode"] > 0
    ratio = next(ratio for ratio in report.ratios() if ratio.key.by == peer)
    assert ratio.agreement is not None
    assert ratio.agreement.same >= least
    assert ratio.agreement.mean_iou >= ratio.agreement.same
    assert ratio.image.median > 0


def test_each_in_a_process_of_its_own_with_its_malloc(photos: list[Source], report: Report):
    tuned = ["segment-anything+malloc"]
    alone = bench(
        photos, ["sam-vit-b"], ["grid"], against=tuned, repeats=1, warmup=0, thread_count=1,
        flops=True, sets=SETS, build=build_blobs,
    )  # fmt: skip
    assert alone.settings["apart"]
    keys = [Key("sam-vit-b", "grid", by) for by in ("everything", *tuned)]
    assert [row.key for row in alone.rows()] == keys
    here = {row.key.program: row.counts for row in report.rows() if row.key.sampler == "grid"}
    assert [row.counts for row in alone.rows()] == [here[key.program] for key in keys]
    assert [ratio.agreement.same for ratio in alone.ratios() if ratio.agreement] == [1]
    assert all(peak.peak > peak.ready > 0 for peak in alone.memory.values())
    assert len(alone.memory) == 2
    assert alone.work == {keys[0]: report.work[keys[0]]}


def test_what_a_peer_cannot_do_is_said(report: Report):
    notes = [note for note in report.notes if "left out" in note]
    assert notes == [
        f"sam-vit-b, hierarchical, {peer}: left out: sampler hierarchical: other programs "
        "have only the grid"
        for peer in ("segment-anything", "transformers")
    ]


def test_work_is_counted_of_this_program(report: Report):
    assert {key.by for key in report.work} == {"everything"}
    work = report.work[Key("sam-vit-b", "grid")]
    assert 0 < work.by_stage["decode"] < work.total


def test_the_report_goes_round_as_json(report: Report):
    assert Report.from_json(report.to_json()) == report
    recipes = json.loads(report.to_json())["settings"]["recipes"]
    assert recipes["sam-vit-b, grid"]["filters"]["pred_iou_thresh"] == 0.91


def test_no_memory_is_a_cell_and_the_others_go_on(photos: list[Source]):
    report = bench(
        photos,
        ["sam-vit-b", "sam-vit-l"],
        ["grid"],
        repeats=1,
        warmup=1,
        megapixels=0.01,
        memory=False,
        sets=SETS,
        build=build_hungry,
    )
    for one in report.settings["photos"]:
        assert one["width"] * one["height"] == pytest.approx(10_000, rel=0.02)
    assert [(row.key.variant, row.failure) for row in report.rows()] == [
        ("sam-vit-b", ""),
        ("sam-vit-l", OOM),
    ]
    assert "| sam-vit-l | OOM |" in markdown(report)


def test_what_was_found_is_kept_when_an_error_ends_it(
    photos: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run, "_EVERY", 0.0)
    kept: list[Report] = []
    with pytest.raises(IndexError):
        bench(
            photos, ["sam-vit-b", "sam-vit-l"], ["grid"], repeats=1, warmup=0, memory=False,
            sets=SETS, on_checkpoint=kept.append, build=build_faulty,
        )  # fmt: skip
    assert [note for note in kept[-1].notes if "IndexError" in note]
    assert all(one.settings["interrupted"] for one in kept)
    save_tables(kept[-1], tmp_path)
    again = Report.from_json((tmp_path / "bench.json").read_text())
    assert [s.key.variant for s in again.samples] == ["sam-vit-b"]
    assert "| sam-vit-b | " in (tmp_path / "bench.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samplers": ["boxes-x"]}, "boxes-50"),
        ({"samplers": ["gird"]}, "did you mean grid"),
        ({"samplers": []}, "at least one"),
        ({"variants": ["sam-vit-c"]}, "did you mean sam-vit-"),
        ({"against": ["sam"]}, "segment-anything"),
        ({"against": ["malloc"]}, r"everything\+malloc"),
        ({"against": ["plain+malloc"], "apart": False}, "separate process"),
        ({"repeats": 0}, "at least 1"),
        ({"truth": Path("t"), "megapixels": 12}, "own size"),
    ],
)
def test_wrong_words_are_one_line(photos: list[Source], arguments: dict, words: str):
    with pytest.raises(ConfigError, match=words):
        bench(photos, **({"variants": ["sam-vit-b"], "build": build_blobs} | arguments))


def test_sam3_from_a_folder_is_a_case_like_any_other(photos: list[Source], tmp_path: Path):
    save("Sam3TrackerModel", tmp_path)
    sets = ("sampler.points_per_side=2", "filters.pred_iou_thresh=0")
    report = bench(
        photos[:1], [f"sam3={tmp_path}"], ["grid", "boxes-3"], repeats=1, warmup=0, apart=False,
        memory=False, sets=sets,
    )  # fmt: skip
    assert [row.key for row in report.rows()] == [Key("sam3", "grid"), Key("sam3", "boxes-3")]
    assert [row.counts["candidates"] for row in report.rows()] == [12, 3]
    assert not any(row.failure for row in report.rows())


def test_no_photos_is_one_line():
    with pytest.raises(InputError, match="--demo"):
        bench([], ["sam-vit-b"])


def test_the_same_boxes_every_time_inside_the_photo():
    from everything.benchmark.cases import random_boxes

    boxes = random_boxes(50, (30, 70)).numpy()
    assert np.array_equal(boxes, random_boxes(50, (30, 70)).numpy())
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= [70, 30]).all()


def test_other_ways_of_this_program_are_compared_like_peers(photos: list[Source]):
    ways = ["plain", "bf16", "fp32"]
    sets = SETS
    report = bench(
        photos, ["sam-vit-b"], ["grid", "boxes-3"], against=ways, repeats=1, warmup=0,
        memory=False, sets=sets, build=build_blobs,
    )  # fmt: skip
    found = {(r.key.sampler, r.key.by): r.agreement for r in report.ratios()}
    assert set(found) == {(sampler, way) for sampler in ("grid", "boxes-3") for way in ways}
    assert found["grid", "fp32"].same == found["boxes-3", "fp32"].same == 1
    assert found["grid", "plain"].mean_iou > 0.999
    assert 0.5 < found["boxes-3", "bf16"].mean_iou < 1
