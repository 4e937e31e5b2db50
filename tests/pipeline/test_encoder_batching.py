"""Encoders that see several views at once: the same numbers, whoever else is there."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from everything.config import Compute
from everything.core.geometry import View, whole
from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError
from everything.io.images.sources import list_inputs
from everything.jobs.label import label
from everything.pipeline.encoder_batching import EncoderQueue
from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.fakes import RECIPE, save_photo
from tests.fakes import build as build_discs
from tests.photos import photo
from tests.pipeline.test_on_device import FAMILIES
from tests.variants.test_contract import build as build_variant

VIEWS = [whole(photo(name, 96)) for name in ("chelsea", "coffee", "rocket", "astronaut")]


class Model:
    """Remembers what it saw; `fails` at views of one object."""

    def __init__(self, fails: View | None = None, error: Exception | None = None) -> None:
        self.fails, self.error = fails, error or ValueError("broken")
        self.saw: list[list[View]] = []

    def encode(self, view: View) -> View:
        return self.encode_batch([view])[0]

    def encode_batch(self, views: Sequence[View]) -> list[View]:
        self.saw.append(list(views))
        if any(view is self.fails for view in views):
            raise self.error
        return list(views)


def test_the_first_that_is_asked_for_brings_the_next_along():
    model, clocks = Model(), [StageTimer(), StageTimer()]
    encoder_queue = EncoderQueue(3)
    encoder_queue.expect(VIEWS[:3], clocks[0])
    encoder_queue.expect(VIEWS[3:], clocks[1])
    a, b, c, d = VIEWS
    for view, timer in [(b, 0), (c, 0), (d, 1)]:
        assert encoder_queue.embedding(model, view, clocks[timer]) is view
    assert model.saw == [[b, c, d]]
    assert clocks[0].seconds["encode"] == pytest.approx(2 * clocks[1].seconds["encode"])
    assert encoder_queue.embedding(model, a, clocks[0]) is a
    assert model.saw[1:] == [[a, a, a]]
    # What nobody said was coming, too.
    assert encoder_queue.embedding(model, a, clocks[0]) is a
    assert model.saw[2:] == [[a, a, a]]


def test_what_is_not_asked_for_is_not_encoded():
    model = Model()
    encoder_queue = EncoderQueue(2)
    encoder_queue.expect(VIEWS, StageTimer())
    encoder_queue.forget(VIEWS[:2])
    encoder_queue.embedding(model, VIEWS[2], StageTimer())
    encoder_queue.forget(VIEWS[3:])
    assert model.saw == [VIEWS[2:]]
    assert not encoder_queue._waiting


def test_an_error_is_that_of_the_view_that_brings_it_about():
    model = Model(fails=VIEWS[1])
    encoder_queue = EncoderQueue(4)
    encoder_queue.expect(VIEWS, StageTimer())
    assert encoder_queue.embedding(model, VIEWS[0], StageTimer()) is VIEWS[0]
    with pytest.raises(ValueError, match="broken"):
        encoder_queue.embedding(model, VIEWS[1], StageTimer())
    assert [encoder_queue.embedding(model, view, StageTimer()) for view in VIEWS[2:]] == VIEWS[2:]


def test_memory_that_runs_out_ends_the_batches(caplog: pytest.LogCaptureFixture):
    model = Model(VIEWS[1], torch.OutOfMemoryError("CUDA out of memory."))
    encoder_queue = EncoderQueue(2)
    encoder_queue.expect(VIEWS, StageTimer())
    for view in (VIEWS[0], VIEWS[2], VIEWS[3]):
        encoder_queue.embedding(model, view, StageTimer())
    assert model.saw == [VIEWS[:2], VIEWS[:1], VIEWS[2:3], VIEWS[3:]]
    assert caplog.messages == ["out of memory: images are encoded one by one from here on"]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "nano"] + ["q-tinysam"])
@torch.inference_mode()
def test_together_is_as_alone(name: str):
    model = build_variant(name)
    alone = [model.features(model.encode(view)) for view in VIEWS[:2]]
    found = [model.features(known) for known in model.encode_batch(VIEWS[:2])]
    for one, other in zip(alone, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def pipeline(together: int) -> Pipeline:
    flags = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5, "crop_n_layers": 1}
    recipe = resolve("sam-vit-b", sampler="grid", flags=flags | {"images_per_batch": together})
    return Pipeline(SamModel(blob_sam()), Grid(points_per_side=3), recipe)


def test_a_photo_and_its_crops():
    image, clocks = photo("coffee"), [StageTimer(), StageTimer()]
    (alone, apart), (found, together) = (
        (segment(image, pipeline(count), timer), timer)
        for count, timer in zip((1, 3), clocks, strict=True)
    )
    assert len(alone) == len(found) > 3
    assert torch.equal(alone.boxes, found.boxes)
    torch.testing.assert_close(alone.scores, found.scores, rtol=0, atol=1e-5)
    assert together.seconds["encode"] > 0
    assert together.counts == apart.counts


def annotations(folder: Path) -> dict[str, Any]:
    files = sorted((folder / "annotations").rglob("*.json"))
    return {file.name: json.loads(file.read_text())["annotations"] for file in files}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_whose_photos_are_seen_together(tmp_path: Path, workers: int):
    for k in range(7):
        save_photo(tmp_path / f"photos/{k}.jpg", k)
    (tmp_path / "photos/3.jpg").write_bytes(b"no photo")
    listing = partial(list_inputs, [tmp_path / "photos"])
    job = partial(label, build=build_discs, preview=False, console=Console(file=io.StringIO()))
    for count in (1, 3):
        compute = Compute(images_per_batch=count)
        recipe = RECIPE.model_copy(update={"compute": compute})
        summary = job(listing, tmp_path / str(count), recipe, workers=workers)
        assert (summary.done, summary.failed) == (6, 1)
    assert annotations(tmp_path / "1") == annotations(tmp_path / "3")
    assert len(annotations(tmp_path / "1")) == 6


def test_who_sees_one_photo_at_a_time_says_so():
    with pytest.raises(ConfigError, match="nano encodes one image at a time"):
        build(resolve("nano", flags={"images_per_batch": 2}))


def test_one_photo_at_a_time_is_no_news_to_older_results():
    recipe = resolve("nano")
    assert "images_per_batch" not in recipe.model_dump()["compute"]
    other = recipe.model_copy(update={"compute": Compute(images_per_batch=2)})
    assert other.digest != recipe.digest
