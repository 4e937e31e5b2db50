"""The scorer learns which regions are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from everything.bundled import ucm
from everything.bundled.boundary_net import BoundaryNet
from everything.io.datasets.label_maps import LabelledImage
from everything.training.region_targets import deepest_point, score_regions
from everything.training.scorer import fit_scorer


def walls(labels: np.ndarray, strength: float) -> np.ndarray:
    """A boundary map that is right, with texture that is not."""
    boundary = np.random.default_rng(0).random(labels.shape) * 0.15
    boundary[:, 1:][labels[:, 1:] != labels[:, :-1]] = strength
    boundary[1:][labels[1:] != labels[:-1]] = strength
    return boundary


@pytest.fixture
def truths(monkeypatch: pytest.MonkeyPatch) -> list[LabelledImage]:
    """Photos whose boundaries are known without a network."""
    made = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        labels = np.ones((64, 96), np.int16)
        labels[10 : 20 + seed * 5, 10:40] = 2
        labels[30:60, 50 : 80 + seed] = 3
        photo = random.integers(0, 256, (4, 3), dtype=np.uint8)[labels]
        made.append(LabelledImage(str(seed), photo, labels[None]))
    maps = {(*t.pixels.shape[:2], int(t.pixels.sum())): walls(t.labels[0], 0.8) for t in made}

    def known(_: BoundaryNet, rgb: torch.Tensor, *how: object) -> tuple[np.ndarray, torch.Tensor]:
        key = (*rgb.shape[-2:], round(float(rgb.double().sum()) * 255))
        return maps[key], torch.zeros(1, 72, 1, 1)

    monkeypatch.setattr(ucm, "boundary_map", known)
    return made


def test_judging_finds_the_right_regions_and_clicks(truths: list[LabelledImage]) -> None:
    scored = score_regions(BoundaryNet(), truths[0], np.random.default_rng(0))
    assert scored.overlap.shape == (len(scored.regions), 3)
    assert (scored.overlap.max(0) > 0.8).all()
    assert scored.overlap.max() <= 1
    assert sorted(scored.areas.tolist()) == sorted(
        np.bincount(truths[0].labels.ravel())[1:].tolist()
    )
    assert len(scored.clicks) == 9
    assert scored.meant[:3].tolist() == [0, 1, 2]
    inside = scored.overlap[scored.clicks.nodes[:, 0], scored.meant]
    assert (inside > 0).all()


def test_overlap_is_the_iou_of_the_masks(truths: list[LabelledImage]) -> None:
    scored = score_regions(BoundaryNet(), truths[1], np.random.default_rng(0))
    labels = truths[1].labels[0]
    for node in range(0, len(scored.regions), 5):
        mask = scored.regions.mask(node)
        for segment, number in enumerate((1, 2, 3)):
            other = labels == number
            iou = (mask & other).sum() / (mask | other).sum()
            assert scored.overlap[node, segment] == pytest.approx(iou)


def test_quality_follows_the_truth(truths: list[LabelledImage]) -> None:
    scored = [score_regions(BoundaryNet(), truth, np.random.default_rng(0)) for truth in truths]
    scorer = fit_scorer(scored[:3], seed=0)
    with torch.inference_mode():
        region_scores = scorer(torch.from_numpy(scored[3].features))
    best = scored[3].overlap.max(1)
    quality = torch.sigmoid(region_scores.quality).numpy()
    assert np.corrcoef(quality, best)[0, 1] > 0.5
    again = fit_scorer(scored[:3], seed=0)
    assert all(
        torch.equal(a, b) for a, b in zip(scorer.parameters(), again.parameters(), strict=True)
    )


def test_nothing_marked_cannot_be_judged(truths: list[LabelledImage]) -> None:
    blank = LabelledImage("blank", truths[0].pixels, np.zeros_like(truths[0].labels))
    with pytest.raises(ValueError, match="no segment"):
        score_regions(BoundaryNet(), blank, np.random.default_rng(0))


def test_no_photos_fit_nothing() -> None:
    with pytest.raises(ValueError, match="no photos"):
        fit_scorer([], seed=0)


def test_the_deepest_pixel_is_in_the_middle() -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:11, 10:17] = True
    assert deepest_point(mask) == (13, 7)
    one = np.zeros((1, 1), bool)
    one[0, 0] = True
    assert deepest_point(one) == (0, 0)
    strip = np.ones((1, 9), bool)
    assert deepest_point(strip)[1] == 0
