import numpy as np
import pytest

from everything.core.mask_hierarchy import LEVELS
from everything.core.stage_timer import StageTimer
from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.resolve import resolve
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import photo


@pytest.fixture(scope="module")
def model() -> SamModel:
    return SamModel(blob_sam())


def pipeline(model: SamModel, n: int = 4, **flags: object) -> Pipeline:
    loose = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    recipe = resolve("sam-vit-b", sampler="grid", flags=loose | flags)
    return Pipeline(model, Grid(points_per_side=n), recipe)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (1, 3000), (20, 20)])
@pytest.mark.parametrize("layers", [0, 1])
def test_tiny_and_thin_images_work(model: SamModel, size: tuple[int, int], layers: int):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    found = segment(image, pipeline(model, crop_n_layers=layers))
    assert found.masks.shape == (len(found), *size)
    assert (found.boxes[:, 2:] < found.boxes.new_tensor([size[1], size[0]])).all()


def test_an_image_without_pixels_has_no_masks(model: SamModel):
    assert len(segment(np.zeros((0, 5, 3), np.uint8), pipeline(model))) == 0


def test_no_mask_is_a_result(model: SamModel):
    strict = pipeline(model, pred_iou_thresh=1.0, crop_n_layers=1, min_mask_region_area=50)
    timer = StageTimer()
    assert len(segment(photo("chelsea"), strict, timer)) == 0
    assert timer.counts["candidates"] == 5 * 16 * 3


def test_counts_tell_what_was_done(model: SamModel):
    timer = StageTimer()
    found = segment(photo("chelsea"), pipeline(model, 5, points_per_batch=10), timer)
    assert timer.counts["prompts"] == 25
    assert timer.counts["decoder_calls"] == 3
    assert timer.counts["candidates"] == 75
    assert timer.counts["masks"] == len(found) > 0
    assert all(timer.seconds[s] > 0 for s in ("encode", "propose", "decode", "select", "finish"))


def test_crops_find_masks_in_their_own_place(model: SamModel):
    image = photo("coffee")
    found = segment(image, pipeline(model, 3, crop_n_layers=1))
    from_crops = found[(found.crops[:, 2] - found.crops[:, 0]) < image.shape[1]]
    assert len(from_crops)
    for row, (x0, y0, x1, y1) in enumerate(from_crops.crops.tolist()):
        mask = from_crops[row : row + 1].masks[0]
        assert not mask[:y0].any()
        assert not mask[y1:].any()
        assert not mask[:, :x0].any()
        assert not mask[:, x1:].any()
        x, y = from_crops.prompts.points[row, 0].tolist()
        assert x0 <= x < x1
        assert y0 <= y < y1


def test_points_thin_out_with_the_crop_layers(model: SamModel):
    timer = StageTimer()
    sparse = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    segment(photo("rocket"), pipeline(model, 6, **sparse), timer)
    assert timer.counts["prompts"] == 36 + 4 * 9


def test_levels_part_the_masks_among_them(model: SamModel):
    image = photo("coffee")
    everything = segment(image, pipeline(model)).rles
    levels = [segment(image, pipeline(model, level=one)).rles for one in LEVELS]
    assert [code for code in everything if code in levels[0]] == levels[0]
    assert sum(map(len, levels)) == len(everything) > len(levels[0]) > 0
    timer = StageTimer()
    segment(image, pipeline(model, level="part"), timer)
    assert timer.counts["masks"] == len(levels[1])
    assert len(segment(image, pipeline(model, pred_iou_thresh=1.0, level="part"))) == 0
