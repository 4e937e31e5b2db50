"""What every sampler owes every model on every image, with crops and without."""

from __future__ import annotations

from functools import cache, reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional as F

from everything.core import rle
from everything.core.geometry import View, whole
from everything.core.prompts import Prompts
from everything.core.protocols import Model
from everything.core.stage_timer import StageTimer
from everything.decoding.reference import PlainCandidates
from everything.detectors.prompt_head import PromptHead
from everything.masks.masks import Decoded
from everything.masks.segments import Segments
from everything.pipeline.pipeline import Pipeline, segment
from everything.pipeline.scene import Scene
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from everything.samplers import SAMPLERS, pair
from everything.variants.networks.sam import SamModel
from tests.blob_sam import WIDTH, blob_sam
from tests.detectors import tiny_concepts
from tests.fakes import Discs
from tests.photos import photo
from tests.yolo import random_yolo, write_yolo

IMAGES = {
    "photo": photo("chelsea", 96),
    "black": np.zeros((40, 52, 3), np.uint8),
    "white": np.full((52, 40, 3), 255, np.uint8),
    "one pixel": np.full((1, 1, 3), 130, np.uint8),
    "row": photo("coffee", 90)[30:31],
    "column": photo("coffee", 90)[:, 30:31],
    "odd": photo("rocket", 67)[:37, :41],
    "no pixels": np.zeros((0, 7, 3), np.uint8),
}
# Fewer points than users have: each case runs in a fraction of a second.
SMALL: dict[str, list[str]] = {
    "grid": ["sampler.points_per_side=3"],
    "hierarchical": ["sampler.points_per_side=4"],
    "object-aware": ["sampler.max_det=20"],
    "auto-ppn": ["sampler.conf=0", "sampler.max_points=6", "sampler.max_boxes=4"],
    "all-instance": [],
    "concepts": ["sampler.concepts=cat, dog", "sampler.conf=0"],
    "object-aware+grid": ["sampler.first.max_det=5", "sampler.then.points_per_side=3"],
}
CASES = [(image, 0) for image in IMAGES] + [("odd", 1), ("row", 1)]
FILTERS = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.3}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a YOLO, a SAM 3, and heads for the models that have none of their own."""
    folder = tmp_path_factory.mktemp("networks")
    tiny_concepts.save(folder / "sam3")
    write_yolo(folder / "yolo.pt", random_yolo())
    torch.manual_seed(0)
    for channels, name in ((WIDTH, "sam-vit-b"), (3, "sam-vit-l")):
        save_file(PromptHead(channels, 16).state_dict(), folder / f"{name}.safetensors")
    return folder


class Fake(Discs):
    """Discs around a click, or around a box's corner; its features are the photo's colours."""

    def features(self, embedding: View) -> torch.Tensor:
        rgb = torch.from_numpy(embedding.pixels.copy()).permute(2, 0, 1)[None].float()
        return F.adaptive_avg_pool2d(rgb, (5, 7))

    def propose(self, embedding: View, prompts: Prompts, multimask_output: bool) -> PlainCandidates:
        candidates = super().propose(embedding, prompts, True)
        rows = candidates.level < (3 if multimask_output else 1)
        columns = (
            candidates.scores,
            candidates.prompt,
            candidates.level,
            candidates.identity,
            candidates.logits,
        )
        scores, prompt, level, identity, logits = (column[rows] for column in columns)
        return PlainCandidates(scores, prompt, level, torch.arange(len(identity)), logits)


@cache
def model(variant: str) -> Model:
    # A fake and a small SAM go by the names of variants whose weights are elsewhere.
    if variant == "sam-vit-l":
        return Fake()
    return SamModel(blob_sam()) if variant == "sam-vit-b" else build(resolve(variant)).model


VARIANTS = ("sam-vit-b", "ucm", "nano", "sam-vit-l")


def run(
    variant: str,
    name: str,
    files: Path,
    image: NDArray[np.uint8],
    flags: dict[str, object] | None = None,
    sets: list[str] | None = None,
) -> tuple[Segments, StageTimer]:
    sets = SMALL[name] + (sets or [])
    if name == "auto-ppn" and (files / f"{variant}.safetensors").exists():
        sets = [*sets, f"sampler.head={files / variant}.safetensors"]
    if name == "concepts":
        sets = [*sets, f"sampler.model={files / 'sam3'}"]
    recipe = resolve(variant, sampler=name, sets=sets, flags=FILTERS | (flags or {}))
    pipeline = Pipeline(model(variant), sampler_of(recipe.sampler), recipe)
    timer = StageTimer()
    return segment(image, pipeline, timer), timer


def sampler_of(settings: dict[str, object]) -> object:
    name = str(settings["name"])
    record = reduce(pair, [SAMPLERS[part] for part in name.split("+")])
    return record.load()(**{key: value for key, value in settings.items() if key != "name"})


@pytest.mark.parametrize(("image", "crops"), CASES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SMALL)
def test_every_sampler_on_every_image(name: str, variant: str, image: str, crops: int, files: Path):
    pixels = IMAGES[image]
    height, width = pixels.shape[:2]
    found, _ = run(variant, name, files, pixels, {"crop_n_layers": crops})
    if not len(found):
        return
    masks = rle.decode(found.rles, (height, width))
    assert masks.any((1, 2)).all()
    assert found.areas.tolist() == masks.sum((1, 2)).tolist()
    assert bool((found.boxes[:, :2] >= 0).all())
    assert bool((found.boxes[:, 2:] < torch.tensor([width, height])).all())
    assert bool(found.scores.isfinite().all())
    points = [point for record in found.to_sa1b() for point in record["point_coords"]]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_every_sampler_is_here():
    classes = {record.where for record in SAMPLERS.values()}
    assert {SAMPLERS[name].where for name in SMALL if name in SAMPLERS} == classes


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SMALL)
def test_a_photo_has_objects_and_has_them_again(name: str, variant: str, files: Path):
    all_pass = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crop_n_layers": 1}
    found, again = (run(variant, name, files, photo("chelsea", 120), all_pass)[0] for _ in range(2))
    assert len(found) > 0
    assert [r["counts"] for r in again.rles] == [r["counts"] for r in found.rles]


@pytest.mark.parametrize("name", ["object-aware", "all-instance"])
def test_a_yolo_takes_the_place_of_the_embedded_detector(name: str, files: Path):
    settings = {"detector": files / "yolo.pt", "imgsz": 96, "conf": 0.0, "max_det": 40}
    yolo = [f"sampler.{key}={value}" for key, value in settings.items()]
    for image, crops in CASES:
        run("sam-vit-b", name, files, IMAGES[image], {"crop_n_layers": crops}, yolo)
    _, timer = run("sam-vit-b", name, files, IMAGES["photo"], {}, yolo)
    assert 0 < timer.counts["candidates"] <= 40


def test_masks_without_prompts_do_not_run_the_encoder(files: Path):
    _, timer = run("sam-vit-b", "all-instance", files, IMAGES["photo"])
    assert timer.counts["prompts"] == timer.counts["decoder_calls"] == 0
    assert "encode" not in timer.seconds


def test_one_mask_for_each_box(files: Path):
    none = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    found, timer = run("sam-vit-b", "object-aware", files, photo("chelsea", 160), none)
    assert timer.counts["prompts"] == timer.counts["candidates"] >= len(found) > 0
    assert all("prompt_box" in record for record in found.to_sa1b())


def test_detectors_keep_all_unless_told_otherwise(files: Path):
    assert resolve("ucm", sampler="object-aware").nms.kind == "none"
    assert resolve("ucm", sampler="object-aware").filters.pred_iou_thresh == 0
    told = resolve(
        "ucm", sampler="object-aware", sets=["nms.kind=box"], flags={"pred_iou_thresh": 0.7}
    )
    assert (told.nms.kind, told.filters.pred_iou_thresh) == ("box", 0.7)


class Blocks:
    """A sampler of one's own: the protocol is all that the pipeline knows."""

    def __call__(self, scene: Scene):
        height, width = scene.view.size
        logits = torch.full((2, height, width), -9.0)
        logits[0, : height // 2] = 9.0
        logits[1, :, : width // 2] = 9.0
        frame = scene.frame
        own = type(frame)(scene.view.size, scene.view.size, (0, 0, width, height))
        prompts = Prompts.clicks(torch.tensor([[width / 2, 1.0], [1.0, height / 2]]))
        scores = torch.tensor([0.9, 0.8])
        yield scene.accept(Decoded(logits, scores, torch.zeros(2).long(), prompts, own))


def test_a_sampler_of_ones_own():
    recipe = resolve(
        "sam-vit-b", sampler="grid", flags={"pred_iou_thresh": 0.5, "crop_n_layers": 1}
    )
    found = segment(IMAGES["photo"], Pipeline(model("sam-vit-b"), Blocks(), recipe))
    assert len(found) >= 2
    view: View = whole(IMAGES["photo"])
    assert view.box in {tuple(crop) for crop in found.crops.tolist()}
