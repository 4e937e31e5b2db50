"""nano, called by segment_anything, answers as it does here."""

from __future__ import annotations

import pytest

from everything.benchmark.mask_agreement import agreement
from everything.benchmark.reference_tools import segment_anything
from everything.core.stage_timer import Clock
from everything.pipeline.pipeline import segment
from everything.recipes.build import load
from tests.photos import photo


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_the_same_masks_with_the_trained_weights(name: str):
    pixels = photo(name, 240)  # neither is square, so that there is padding
    pipeline = load("nano", "grid", points_per_side=6, kind="box")
    clock = Clock()
    ours, theirs = segment(pixels, pipeline, clock), segment_anything(pipeline)(pixels, clock)
    assert len(ours.rles) > 5
    assert clock.counts["prompts"] == 72  # of both
    assert agreement(ours.rles, theirs).mean_iou > 0.99
