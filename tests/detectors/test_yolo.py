"""YOLOv8-seg by its tensors alone finds what ultralytics finds."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from everything.core.geometry import Frame
from everything.detectors import yolo
from everything.detectors.yolo import YoloDetections, letterbox
from everything.errors import WeightsError
from tests.photos import photo
from tests.yolo import random_yolo, write_yolo

LOOSE = {"imgsz": 320, "conf": 0.0, "iou": 0.9, "max_det": 300}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yolo(tmp_path_factory.mktemp("yolo") / "random.pt", random_yolo())


@pytest.mark.parametrize(
    ("view", "imgsz", "canvas", "content"),
    [
        ((480, 640), 1024, (768, 1024), (0, 0, 1024, 768)),
        ((640, 480), 1024, (1024, 768), (0, 0, 768, 1024)),
        ((100, 100), 64, (64, 64), (0, 0, 64, 64)),
        ((321, 481), 1024, (704, 1024), (0, 10, 1024, 693)),
        ((1, 1), 32, (32, 32), (0, 0, 32, 32)),
        ((1, 5000), 1024, (32, 1024), (0, 15, 1024, 16)),
    ],
)
def test_letterbox(view: Any, imgsz: int, canvas: Any, content: Any):
    frame = letterbox(view, imgsz)
    assert (frame.canvas, frame.content) == (canvas, content)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "coins"])
def test_objects_are_those_of_ultralytics(
    checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(yolo, "BORDER", 0.0)  # FastSAM's snapping is not ultralytics'
    image = photo(name)
    with yolo.quietly():
        predictors: Any = import_module("ultralytics.models.yolo.segment")
    overrides = {
        "model": str(checkpoint),
        "retina_masks": True,
        "rect": True,
        "save": False,
        "verbose": False,
    }
    predict = predictors.SegmentationPredictor(overrides=overrides | LOOSE | {"task": "segment"})
    theirs = predict(np.ascontiguousarray(image[..., ::-1]))[0]
    with torch.inference_mode():
        ours = yolo.load(str(checkpoint))(image, **LOOSE)
    masks = ours.logits(slice(None)) > 0
    seen = 0
    for box, score, mask in zip(
        theirs.boxes.xyxy, theirs.boxes.conf, theirs.masks.data.bool(), strict=True
    ):
        distance = (ours.boxes - box).abs().amax(1) + 100 * (ours.scores - score).abs()
        # Several objects may have the same box and confidence, and masks of their own.
        errors = (masks[distance < 1] ^ mask).sum((1, 2)).tolist()
        seen += bool(errors) and min(errors) <= 0.05 * mask.sum() + 8
    # Equal confidences are sorted differently, which changes what a few of them suppress; which
    # are equal depends on the CPU's sums.
    assert seen > 0.9 * len(theirs) > 45


def test_boxes_are_snapped_and_nearly_full_ones_are_full():
    boxes = torch.tensor([[19.0, 30, 50, 60], [5, 6, 95, 94], [30, 30, 79, 81], [8, 3, 99, 99]])
    snapped = yolo._snapped(boxes, (100, 100))
    assert snapped.tolist()[:3] == [[0, 30, 50, 60], [0, 0, 100, 100], [30, 30, 79, 100]]
    wide = torch.tensor([[0.0, 0, 960, 1000], [0, 0, 880, 1000]])
    full = yolo._snapped(wide, (1000, 1000))
    assert full.tolist() == [[0, 0, 1000, 1000], [0, 0, 880, 1000]]


def test_masks_end_at_their_boxes():
    frame = Frame((8, 16), (32, 64), (0, 0, 64, 32), "one-step")
    everywhere = torch.ones(1, 8, 16)
    found = YoloDetections(
        torch.tensor([[2.0, 1, 6, 4]]), torch.ones(1), torch.ones(1, 1), everywhere, frame
    )
    mask = found.logits(slice(None))[0] > 0
    assert mask.nonzero().tolist() == [[y, x] for y in range(1, 4) for x in range(2, 6)]


def test_nothing_found_is_nothing(checkpoint: Path):
    with torch.inference_mode():
        found = yolo.load(str(checkpoint))(photo("coffee", 64), **LOOSE | {"conf": 1.0})
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.logits(slice(None)).shape == (0, *photo("coffee", 64).shape[:2])


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (33, 1)])
def test_tiny_views(checkpoint: Path, size: tuple[int, int]):
    with torch.inference_mode():
        found = yolo.load(str(checkpoint))(np.full((*size, 3), 90, np.uint8), **LOOSE)
    assert found.logits(slice(None)).shape[1:] == size


def test_any_number_of_classes_and_bins(tmp_path: Path):
    file = write_yolo(tmp_path / "a.pt", random_yolo(bins=26, classes=3))
    with torch.inference_mode():
        found = yolo.load(str(file))(photo("coffee", 96), **LOOSE | {"imgsz": 96})
    assert found.coefficients.shape == (len(found), 32)
    assert len(found) > 0


def test_weights_of_something_else_are_refused(tmp_path: Path):
    torch.save({"model": torch.nn.Conv2d(1, 1, 1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: not a YOLOv8-seg network"):
        yolo.load(str(tmp_path / "other.pt"))
    with pytest.raises(WeightsError, match=r"absent\.pt"):
        yolo.load(str(tmp_path / "absent.pt"))
    network = random_yolo()
    del network.model[22].proto
    file = write_yolo(tmp_path / "half.pt", network)
    with pytest.raises(WeightsError, match=r"half\.pt: not weights of a YOLOv8-seg network"):
        yolo.load(str(file))


def test_the_environment_is_left_as_it_was():
    assert "YOLO_OFFLINE" not in os.environ
    assert "YOLO_CONFIG_DIR" not in os.environ
