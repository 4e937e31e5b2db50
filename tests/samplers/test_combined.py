"""Two samplers as one."""

from __future__ import annotations

import pytest
import torch

from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError
from everything.masks.masks import Masks
from everything.pipeline.pipeline import Pipeline, segment
from everything.pipeline.scene import Scene
from everything.recipes.resolve import resolve
from everything.samplers import SAMPLERS, pair
from everything.samplers.combined import Combined
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import photo

LOOSE = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5, "kind": "none"}


@pytest.fixture(scope="module")
def model() -> SamModel:
    return SamModel(blob_sam())


def clicks(model: SamModel, sampler: object) -> tuple[StageTimer, torch.Tensor, torch.Tensor]:
    """What was counted; where clicks were kept; all boxes."""
    recipe, timer = resolve("sam-vit-b", sampler="grid", flags=LOOSE), StageTimer()
    found = segment(photo("chelsea"), Pipeline(model, sampler, recipe), timer)
    return timer, found.prompts.points[:, 0], found.boxes


def made(first: Grid, then: Grid, largest: float) -> Combined:
    return Combined(first=first, then=then, largest=largest)


def test_the_second_asks_only_where_no_box_is(model: SamModel):
    first, then = Grid(points_per_side=2), Grid(points_per_side=9)
    alone, _, boxes = clicks(model, first)
    height, width = photo("chelsea").shape[:2]
    small = boxes[(boxes[:, 2:] - boxes[:, :2] + 1).prod(1) <= 0.05 * height * width]
    both, _, _ = clicks(model, made(first, then, 0.05))
    x, y = ((torch.arange(9) + 0.5) / 9).mul(width), ((torch.arange(9) + 0.5) / 9).mul(height)
    grid = torch.cartesian_prod(x, y)
    inside = ((grid[:, None] >= small[:, :2]) & (grid[:, None] < small[:, 2:] + 1)).all(2).any(1)
    assert 0 < inside.sum() < 81
    assert both.counts["prompts"] == alone.counts["prompts"] + int((~inside).sum())


def test_what_is_too_large_covers_nothing(model: SamModel):
    both, _, _ = clicks(model, made(Grid(points_per_side=2), Grid(points_per_side=5), 0.0))
    assert both.counts["prompts"] == 4 + 25


def test_the_image_is_encoded_once(model: SamModel, monkeypatch: pytest.MonkeyPatch):
    seen = []
    encode = SamModel.encode
    monkeypatch.setattr(SamModel, "encode", lambda *a: (seen.append(1), encode(*a))[1])
    clicks(model, made(Grid(points_per_side=2), Grid(points_per_side=5), 0.5))
    assert len(seen) == 1


def test_a_pair_is_one_line_of_configuration():
    recipe = resolve(sampler="object-aware+grid-16", sets=["sampler.first.conf=0.35"])
    assert recipe.sampler["name"] == "object-aware+grid-16"
    assert recipe.sampler["first"]["conf"] == 0.35
    assert recipe.sampler["then"]["points_per_side"] == 16
    # What filters the grid must not be switched off by what the boxes do without.
    assert recipe.filters.pred_iou_thresh > 0
    assert resolve(sampler="object-aware+grid-16").digest != recipe.digest


def test_three_are_possible(model: SamModel):
    record = pair(pair(SAMPLERS["grid-16"], SAMPLERS["hierarchical"]), SAMPLERS["grid-32"])
    sampler = record.load()()
    assert sampler.first.then.high_score_thresh == 8.5


@pytest.mark.parametrize("name", ["object-aware+", "+grid", "grid+gird"])
def test_a_pair_of_what_is_not_known_is_refused(name: str):
    with pytest.raises(ConfigError, match="is not known"):
        resolve(sampler=name)


def test_crops_have_their_own_boxes(model: SamModel):
    recipe = resolve("sam-vit-b", sampler="grid", flags=LOOSE | {"crop_n_layers": 1})
    sampler = made(Grid(points_per_side=1), Grid(points_per_side=3), 1.0)
    seen: list[tuple[Scene, Masks]] = []

    def watched(scene: Scene):
        for masks in sampler(scene):
            seen.append((scene, masks))
            yield masks

    segment(photo("rocket", 200), Pipeline(model, watched, recipe))
    first_of: dict[object, torch.Tensor] = {}
    for scene, masks in seen:
        crop = scene.view.box
        centre = torch.tensor([(crop[0] + crop[2]) / 2, (crop[1] + crop[3]) / 2])
        points = masks.segments.prompts.points[:, 0]
        if crop not in first_of:
            first_of[crop] = masks.segments.boxes
            assert torch.allclose(points, centre.double())
            continue
        for box in first_of[crop]:
            assert not ((points >= box[:2]) & (points < box[2:] + 1)).all(1).any()
    assert len(first_of) == 5
