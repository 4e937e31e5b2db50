"""Our masks are those of segment_anything's own automatic mask generator."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.build_sam import build_sam_vit_b
from segment_anything.modeling import Sam
from torch import Tensor, nn

from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.resolve import resolve
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.photos import NAMES, photo


class Remembering(nn.Module):
    """An encoder that does not compute the same picture twice: both sides must ask for the very
    same pixels, and ViT-B takes seconds a picture."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.img_size = encoder, encoder.img_size
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        for known, embedding in self.seen:
            if torch.equal(known, pixels):
                return embedding
        self.seen.append((pixels, self.encoder(pixels)))
        return self.seen[-1][1]


@pytest.fixture(scope="module")
def small() -> Sam:
    return blob_sam()


@pytest.fixture(scope="module")
def vit_b() -> Sam:
    torch.manual_seed(0)
    sam = build_sam_vit_b()
    for name, weight in sam.named_parameters():
        # At their initial zeros ViT's positions say nothing about a place.
        if "pos" in name:
            nn.init.normal_(weight, std=0.5)
    sam.image_encoder = Remembering(sam.image_encoder)
    return sam


def ours(
    sam: Sam, image: np.ndarray, settings: dict[str, Any], decoder: str = "plain"
) -> list[dict[str, Any]]:
    recipe = resolve("sam-vit-b", sampler="grid", flags=settings | {"decoder": decoder})
    # The other side goes on with segment_anything's own attention.
    own = sam if isinstance(sam.image_encoder, Remembering) else copy.deepcopy(sam)
    model = SamModel(own, decoding=recipe.decoding)
    grid = Grid(points_per_side=settings["points_per_side"])
    return segment(image, Pipeline(model, grid, recipe)).to_sa1b()


def theirs(sam: Sam, image: np.ndarray, settings: dict[str, Any]) -> list[dict[str, Any]]:
    settings = dict(settings)
    own = copy.copy(sam)  # SAM's mask threshold is the model's, SAM 2's its generator's
    own.mask_threshold = settings.pop("mask_threshold", 0.0)
    generator = SamAutomaticMaskGenerator(own, output_mode="coco_rle", **settings)
    return generator.generate(image)


def same(a: dict[str, Any], b: dict[str, Any], pixels: int) -> bool:
    """Whether two records are of one mask; `pixels` that lie on the cut may differ."""
    numbers = [[*r["crop_box"], *r["point_coords"][0], r["predicted_iou"]] for r in (a, b)]
    stability = abs(a["stability_score"] - b["stability_score"])
    return np.allclose(*numbers, 0, 1e-4) and stability <= 1e-4 + pixels / max(a["area"], 1)


def assert_same(a: list[dict[str, Any]], b: list[dict[str, Any]], pixels: int = 0) -> None:
    """Every mask of a has its own counterpart in b, and the other way round."""
    assert len(a) == len(b)
    left = set(range(len(b)))
    for record in a:
        near = [row for row in left if same(record, b[row], pixels)]
        assert near
        codes = [b[row]["segmentation"] for row in near]
        iou = coco.iou([record["segmentation"]], codes, [0] * len(codes))
        assert iou.max() >= min(0.999, 1 - pixels / max(record["area"], 1))
        left.remove(near[int(iou.argmax())])


SETTINGS = [
    pytest.param({}, id="whole"),
    pytest.param({"min_mask_region_area": 60}, id="clean-up"),
    pytest.param({"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, id="crops"),
    pytest.param({"crop_n_layers": 1, "min_mask_region_area": 60}, id="crops and clean-up"),
    pytest.param({"mask_threshold": 1.5}, id="smaller masks"),
    pytest.param({"mask_threshold": -2.0}, id="larger masks"),
]


@pytest.mark.parametrize("extra", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_fitted_small_sam(small: Sam, name: str, extra: dict[str, Any]):
    settings = {"points_per_side": 7, "pred_iou_thresh": 0.8, "stability_score_thresh": 0.85}
    settings |= {"points_per_batch": 20} | extra
    expected = theirs(small, photo(name), settings)
    assert 0 < len(expected) < 3 * 49 * 5
    assert_same(expected, ours(small, photo(name), settings))
    # Rounds in another order, so that a pixel on the very cut may fall on its other side.
    assert_same(expected, ours(small, photo(name), settings, "shared-image"), pixels=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
# Square, wide and tall: each takes a minute. The small SAM above has all images.
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "bus"])
def test_random_vit_b(vit_b: Sam, name: str):
    everything = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    settings = {"points_per_side": 4, "stability_score_offset": 0.02}
    seen = ours(vit_b, photo(name), settings | everything)
    scores = np.array([[r["predicted_iou"], r["stability_score"]] for r in seen])
    thresholds = np.nanquantile(scores, 0.4, axis=0)
    settings |= {
        # Between two values, so that rounding cannot decide.
        "pred_iou_thresh": max(0.0, _gap(scores[:, 0], thresholds[0])),
        "stability_score_thresh": _gap(scores[:, 1], thresholds[1]),
    }
    expected = theirs(vit_b, photo(name), settings)
    assert_same(expected, ours(vit_b, photo(name), settings))
    assert_same(expected, ours(vit_b, photo(name), settings, "shared-image"), pixels=3)


def _gap(values: np.ndarray, near: float) -> float:
    """The middle of the widest gap among the sorted values around `near`."""
    ordered = np.sort(values[~np.isnan(values)])
    at = int(np.searchsorted(ordered, near))
    window = ordered[max(0, at - 3) : at + 4]
    widest = int(np.diff(window).argmax())
    return float(window[widest : widest + 2].mean())


def test_a_batch_that_is_not_full_is_not_lost(small: Sam):
    settings = {"points_per_side": 5, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    one = ours(small, photo("chelsea"), settings | {"points_per_batch": 25})
    for size in (1, 7, 24, 26):
        assert_same(one, ours(small, photo("chelsea"), settings | {"points_per_batch": size}))
