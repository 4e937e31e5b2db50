"""Answers that are no numbers fail the photo: no threshold would let one of them pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everything.io.images.sources import Source
from everything.io.results.writer import Store
from everything.jobs.annotator import Annotator, Task
from everything.pipeline.pipeline import Pipeline, segment
from everything.pipeline.scene import NotFinite
from everything.recipes.build import load
from tests.photos import photo

PHOTO = photo("chelsea", 160)
LOOSE = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.5}


def nano(factor: float, sampler: str = "grid-16", **settings: object) -> Pipeline:
    """nano with what its encoder's last norm takes multiplied, which leaves its answers alone."""
    pipeline = load("nano", sampler, **(LOOSE | settings))
    encoder = pipeline.model.network.image_encoder  # type: ignore[attr-defined]
    for layer in (encoder.from4, encoder.from8, encoder.from16):
        layer.weight.data *= factor
        layer.bias.data *= factor
    return pipeline


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_numbers_that_a_precision_holds_are_fine(precision: str):
    assert len(segment(PHOTO, nano(1e6, precision=precision, points_per_side=4))) > 2


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [("grid-16", {"points_per_side": 2}), ("hierarchical", {}), ("auto-ppn", {})],
)
def test_float16_that_overflows_is_an_error(sampler: str, settings: dict[str, object]):
    with pytest.raises(NotFinite, match="its values overflow in fp16: use --precision fp32 or"):
        segment(PHOTO, nano(1e6, sampler, precision="fp16", **settings))


def test_the_photo_is_a_failed_row(tmp_path: Path):
    Image.fromarray(PHOTO).save(tmp_path / "cat.png")
    pipeline = nano(float("nan"), points_per_side=2)
    annotator = Annotator(pipeline, Store(tmp_path / "out", pipeline.recipe))
    row = annotator(Task(Source(str(tmp_path), "cat.png")))
    assert row.status == "failed"
    assert row.error is not None
    assert row.error.endswith("nano produced NaN or inf: are its weights damaged?")
    assert "cat.png: " in row.error


def test_a_photo_of_one_colour_has_finite_answers():
    segment(np.zeros((40, 60, 3), np.uint8), nano(1, points_per_side=2))
