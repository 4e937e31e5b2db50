from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from everything.core.prompts import Prompts
from everything.core.raster import Pixels
from everything.decoding.shared_image import SharedCandidates
from everything.pipeline.adaptive_batch_size import AdaptiveBatchSize, is_out_of_memory
from everything.pipeline.pipeline import Pipeline, segment, segment_tiles
from everything.recipes.resolve import resolve
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import photo

SETS = ["filters.pred_iou_thresh=0.5", "filters.stability_score_thresh=0.5"]


class Narrow(SamModel):
    """Has memory for five prompts at a time."""

    asked: list[int]

    def propose(self, embedding: Any, prompts: Prompts, multimask_output: bool) -> Any:
        self.asked.append(len(prompts))
        if len(prompts) > 5:
            torch.empty(2**58)
        return super().propose(embedding, prompts, multimask_output)


def narrow() -> Narrow:
    model = Narrow(blob_sam())
    model.asked = []
    return model


def pipeline(model: SamModel) -> Pipeline:
    recipe = resolve("sam-vit-b", sampler="grid", sets=[*SETS, "decoding.points_per_batch=16"])
    return Pipeline(model, Grid(points_per_side=5), recipe)


def test_batches_are_halved_for_good_and_nothing_is_lost(caplog: pytest.LogCaptureFixture):
    pixels = photo("chelsea", 96)
    short = pipeline(narrow())
    with caplog.at_level(logging.WARNING):
        found = segment(pixels, short)
    assert short.model.asked == [16, 8, *[4] * 6, 1]
    assert ["points_per_batch is 8" in r.message for r in caplog.records] == [True, False]
    expected = segment(pixels, pipeline(SamModel(blob_sam())))
    assert len(found) > 3
    assert [r["counts"] for r in found.rles] == [r["counts"] for r in expected.rles]
    # The next photo begins with what has worked.
    short.model.asked.clear()
    segment(np.ascontiguousarray(pixels[::-1]), short)
    assert short.model.asked == [*[4] * 6, 1]


def test_what_memory_allows_is_kept_where_tiles_have_a_level():
    # Tiles are segmented by a copy of the pipeline that keeps masks of all levels.
    sets = [*SETS, "decoding.points_per_batch=16", "tiles.tile_side=64", "tiles.tile_overlap=16"]
    recipe = resolve("sam-vit-b", sampler="grid", sets=[*sets, "output.level=whole"])
    short = Pipeline(narrow(), Grid(points_per_side=5), recipe)
    image = Pixels(photo("chelsea", 96))
    segment_tiles(image, short)
    assert short.model.asked[:3] == [16, 8, 4]
    short.model.asked.clear()
    segment_tiles(image, short)
    assert max(short.model.asked) == 4


def test_fewer_masks_are_drawn_together_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch):
    pixels = photo("chelsea", 96)
    expected = segment(pixels, pipeline(SamModel(blob_sam())))
    draw, asked = SharedCandidates.draw, []

    def narrow_draw(candidates: SharedCandidates, rows: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows))
        if len(rows) > 7:
            torch.empty(2**58)
        return draw(candidates, rows)

    monkeypatch.setattr(SharedCandidates, "draw", narrow_draw)
    found = segment(pixels, pipeline(SamModel(blob_sam())))
    assert max(asked) > 7
    assert found.to_sa1b() == expected.to_sa1b()
    monkeypatch.setattr(SharedCandidates, "draw", lambda candidates, rows: torch.empty(2**58))
    with pytest.raises(RuntimeError, match="memory"):
        segment(pixels, pipeline(SamModel(blob_sam())))


def test_one_prompt_that_is_too_many_is_an_error():
    class None_(SamModel):
        def propose(self, *args: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        segment(photo("chelsea", 64), pipeline(None_(blob_sam())))


def test_other_errors_are_not_survived():
    batch_size = AdaptiveBatchSize(64)
    assert not batch_size.survives(ValueError("out of memory"))
    assert batch_size.points_per_batch == 64


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
