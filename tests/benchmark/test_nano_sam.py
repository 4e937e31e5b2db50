"""nano, called by segment_anything, answers as it does here."""

from __future__ import annotations

import pytest

from everything.benchmark.mask_agreement import agreement
from everything.benchmark.reference_tools import segment_anything
from everything.core.stage_timer import StageTimer
from everything.pipeline.pipeline import segment
from everything.recipes.build import load
from tests.photos import photo


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_the_same_masks_with_the_trained_weights(name: str):
    pixels = photo(name, 240)  # neither is square, so that there is padding
    pipeline = load("nano", "grid", points_per_side=6, kind="box")
    timer = StageTimer()
    ours, theirs = segment(pixels, pipeline, timer), segment_anything(pipeline)(pixels, timer)
    assert len(ours.rles) > 5
    assert timer.counts["prompts"] == 72  # of both
    assert agreement(ours.rles, theirs).mean_iou > 0.99
