"""The hierarchical sampler is TinySAM's, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from torchvision.ops import nms

from everything.core import rle
from everything.core.stage_timer import StageTimer
from everything.masks.segments import Segments
from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.resolve import resolve
from everything.samplers.hierarchical import Hierarchical, coarse_points, fine_points
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import photo

Found = dict[str, torch.Tensor]
FILTERS = {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.85, "stability_score_offset": 1.0}


@pytest.fixture(scope="module")
def sam() -> Sam:
    return blob_sam()


def plain_round(predictor: SamPredictor, points: list[list[float]]) -> Found:
    """One round as TinySAM runs it: all masks at full resolution, then its two filters."""
    found: list[Found] = []
    for start in range(0, len(points), 64):
        batch = np.array(points[start : start + 64])
        moved = predictor.transform.apply_coords(batch, predictor.original_size)
        labels = torch.ones(len(batch), 1, dtype=torch.int)
        logits, scores, _ = predictor.predict_torch(
            torch.as_tensor(moved)[:, None], labels, return_logits=True
        )
        logits, scores = logits.flatten(0, 1), scores.flatten()
        stable = calculate_stability_score(logits, 0.0, FILTERS["stability_score_offset"])
        keep = scores > FILTERS["pred_iou_thresh"]
        keep &= stable >= FILTERS["stability_score_thresh"]
        clicks = torch.as_tensor(batch).repeat_interleave(3, 0)
        rows = {"logits": logits, "scores": scores, "stability": stable, "clicks": clicks}
        found.append({name: column[keep] for name, column in rows.items()})
    return {name: torch.cat([part[name] for part in found]) for name in found[0]} if found else {}


def plain_candidates(width: int, height: int, n: int, covered: NDArray[np.bool_]) -> Any:
    """The second round's points, as TinySAM's loops walk over them."""
    coarse = n // 4
    across, down = width // n, height // n
    kept = []
    for row in range(coarse):
        for column in range(coarse):
            x, y = (column + 0.5) / coarse * width, (row + 0.5) / coarse * height
            block = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
            if x + 2 * across < width:
                block += [(2, j) for j in (-1, 0, 1)]
            if y + 2 * down < height:
                block += [(i, 2) for i in (-1, 0, 1)]
            if x + 2 * across < width and y + 2 * down < height:
                block.append((2, 2))
            for i, j in block:
                px, py = x + i * across, y + j * down
                if not covered[int(py), int(px)]:
                    kept.append([px, py])
    return kept


def plain_hierarchical(
    sam: Sam, image: NDArray[np.uint8], n: int, high: float
) -> tuple[Found, int, int]:
    """TinySAM's masks after the fusion of both rounds, and the number of points of each."""
    height, width = image.shape[:2]
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    side = (np.arange(n // 4) + 0.5) / (n // 4)
    coarse = [[x * width, y * height] for y in side for x in side]
    first = plain_round(predictor, coarse)
    covered = (first["logits"] > high).any(0).numpy()
    fine = plain_candidates(width, height, n, covered)
    second = plain_round(predictor, fine)
    parts = [second, first] if second else [first]
    both = {name: torch.cat([part[name] for part in parts]) for name in first}
    boxes = batched_mask_to_box(both["logits"] > 0).float()
    keep = nms(boxes, both["scores"], 0.7)
    return {name: column[keep] for name, column in both.items()}, len(coarse), len(fine)


def ours(
    sam: Sam, image: NDArray[np.uint8], sampler: Any, **flags: Any
) -> tuple[Segments, StageTimer]:
    # As the reference does: what is compared is the sampler.
    plain = {"decoder": "plain"}
    recipe = resolve("sam-vit-b", sampler="hierarchical", flags=FILTERS | plain | flags)
    timer, model = StageTimer(), SamModel(sam, decoding=recipe.decoding)
    return segment(image, Pipeline(model, sampler, recipe), timer), timer


@pytest.mark.parametrize("high", [8.5, 20.0])
@pytest.mark.parametrize(
    ("name", "size"), [("chelsea", 320), ("rocket", 200), ("coins", 303), ("camera", 256)]
)
def test_both_rounds_are_tinysams(sam: Sam, name: str, size: int, high: float):
    image = photo(name, size)
    expected, coarse, fine = plain_hierarchical(sam, image, 16, high)
    found, timer = ours(sam, image, Hierarchical(points_per_side=16, high_score_thresh=high))
    assert timer.counts["prompts"] == coarse + fine
    assert len(found) == len(expected["scores"]) > 0
    assert torch.allclose(found.scores, expected["scores"], atol=1e-5)
    # A pixel on the cut may round to either side, in a mask of as few as 1000.
    assert torch.allclose(found.stability, expected["stability"], atol=1e-3)
    assert torch.allclose(found.prompts.points[:, 0], expected["clicks"], atol=1e-9)
    masks = rle.decode(found.rles, (image.shape[0], image.shape[1]))
    theirs = (expected["logits"] > 0).numpy()
    overlap = (masks & theirs).sum((1, 2)) / (masks | theirs).sum((1, 2))
    assert overlap.min() > 0.999


def test_confident_masks_save_prompts(sam: Sam):
    image = photo("chelsea")
    counts = {
        high: ours(sam, image, Hierarchical(high_score_thresh=high))[1].counts["prompts"]
        for high in (-1e9, 20.0, 1e9)
    }
    assert counts[-1e9] == 64
    assert 64 < counts[20.0] < counts[1e9] <= 64 + 960


def test_no_second_round_where_everything_is_covered(sam: Sam):
    image = photo("rocket", 128)
    found, timer = ours(sam, image, Hierarchical(high_score_thresh=-1e9))
    assert timer.counts["decoder_calls"] == 1
    assert len(found) > 0


def test_nothing_found_covers_nothing(sam: Sam):
    image = photo("rocket", 128)
    found, timer = ours(sam, image, Hierarchical(points_per_side=8), pred_iou_thresh=1.0)
    assert len(found) == 0
    assert timer.counts["prompts"] == 4 + len(
        fine_points(coarse_points((128, 97), 8), (128, 97), 8)
    )


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), 897), ((480, 640), 897), ((481, 321), 960), ((32, 33), 928)]
)
def test_lattice_of_32(size: tuple[int, int], expected: int):
    coarse = coarse_points(size, 32)
    fine = fine_points(coarse, size, 32)
    assert len(coarse) == 64
    assert len(fine) == expected
    height, width = size
    nowhere = np.zeros(size, bool)
    assert fine.tolist() == plain_candidates(width, height, 32, nowhere)


def test_fine_points_lie_half_a_cell_off_the_grid():
    fine = fine_points(coarse_points((320, 640), 32), (320, 640), 32)
    steps = fine / torch.tensor([640 / 32, 320 / 32])
    assert torch.equal(steps, steps.round())
    assert len(torch.unique(fine, dim=0)) == len(fine)


@pytest.mark.parametrize("n", [1, 3, 4, 6, 31, 33, 64])
def test_any_number_of_points(n: int):
    coarse = coarse_points((300, 400), n)
    fine = fine_points(coarse, (300, 400), n)
    cells = max(1, n // 4)
    assert len(coarse) == cells**2
    assert 8 * cells**2 <= len(fine) <= 15 * cells**2
    both = torch.cat([coarse, fine])
    assert bool(((both >= 0) & (both < torch.tensor([400, 300]))).all())


@pytest.mark.parametrize("size", [(1, 1), (1, 31), (31, 1), (3, 5), (16, 500), (31, 31)])
def test_tiny_images_do_not_collapse(size: tuple[int, int]):
    coarse = coarse_points(size, 32)
    fine = fine_points(coarse, size, 32)
    height, width = size
    pixels = {(int(x), int(y)) for x, y in fine.tolist()}
    taken = {(int(x), int(y)) for x, y in coarse.tolist()}
    assert len(pixels) == len(fine)
    assert not pixels & taken
    assert all(0 <= x < width and 0 <= y < height for x, y in pixels)
    if size == (31, 31):
        assert len(pixels | taken) > 900


def test_crops_have_their_own_rounds(sam: Sam):
    image = photo("coffee", 256)
    sampler = Hierarchical(points_per_side=8)
    crops = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    found, timer = ours(sam, image, sampler, **crops)
    assert timer.counts["prompts"] <= 4 + 60 + 4 * (1 + 15)
    assert len(torch.unique(found.crops, dim=0)) > 1
