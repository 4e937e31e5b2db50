"""The choice of a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from everything.core.geometry import whole
from everything.core.stage_timer import StageTimer
from everything.detectors import region_detector
from everything.detectors.detector import DetectorSettings
from everything.pipeline.scene import Scene
from everything.recipes.build import load
from everything.recipes.resolve import resolve
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import photo


def test_confidence_is_the_detectors_own(tmp_path: Path):
    assert DetectorSettings().conf == 0.3
    assert DetectorSettings(detector="fastsam-s").conf == 0.4
    assert DetectorSettings(detector="fastsam-s", conf=0.1).conf == 0.1
    file = tmp_path / "a.pt"
    file.write_bytes(b"any")
    given = resolve(sampler="all-instance", sets=[f"sampler.detector={file}"])
    assert given.sampler["conf"] == 0.4


def found_in(image: np.ndarray, **settings: float) -> region_detector.RegionDetections:
    scene = Scene(load("ucm").model, whole(image), resolve("ucm"), StageTimer())
    return region_detector.detect(scene, **{"conf": 0.1, "iou": 0.9, "max_det": 300} | settings)


def test_regions_are_sorted_distinct_and_few():
    found = found_in(photo("coffee", 160), iou=0.6)
    scores = found.scores
    assert len(scores) > 10
    assert bool((scores[:-1] >= scores[1:]).all())
    assert float(scores.min()) > 0.1
    masks = np.stack([found.embedding.regions.mask(int(node)) for node in found.nodes])
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    both = flat @ flat.T
    iou = both / (flat.sum(1)[:, None] + flat.sum(1) - both)
    assert np.triu(iou, 1).max() <= 0.6
    few = found_in(photo("coffee", 160), iou=0.6, max_det=7)
    assert few.nodes.tolist() == found.nodes[:7].tolist()


def test_boxes_and_masks_of_regions_agree():
    found = found_in(photo("chelsea", 120))
    decoded = found.decoded(slice(2, 6))
    for box, logits in zip(found.boxes[2:6], decoded.logits, strict=True):
        y, x = (logits > 0).nonzero().unbind(1)
        inside = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert torch.equal(torch.tensor(inside).double(), box)
    assert torch.equal(decoded.scores, found.scores[2:6])


def test_another_variant_gets_the_regions_of_the_bundled_default():
    image = photo("chelsea", 120)
    bundled = Scene(load("ucm-lite0").model, whole(image), resolve("ucm-lite0"), StageTimer())
    scene = Scene(SamModel(blob_sam()), whole(image), resolve("sam-vit-b"), StageTimer())
    own, other = (
        region_detector.detect(s, conf=0.1, iou=0.9, max_det=300) for s in (bundled, scene)
    )
    assert torch.equal(own.boxes, other.boxes)
    assert len(other.scores) > 10
    assert "embedding" not in vars(scene)


def test_nothing_is_confident_in_nothing():
    found = found_in(np.zeros((20, 30, 3), np.uint8), conf=1.0)
    assert len(found.scores) == 0
    assert found.boxes.shape == (0, 4)
    assert len(found.decoded(slice(None)).logits) == 0
