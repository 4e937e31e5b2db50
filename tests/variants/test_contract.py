"""What every variant must do: take its official checkpoint whole, see a photo, answer prompts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from everything.config import Compute, Decoding
from everything.core import rle
from everything.core.device import DEFAULT_DECODING, ON_CPU
from everything.core.geometry import Frame, Size, View, whole
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates, Model
from everything.core.stage_timer import StageTimer
from everything.detectors.prompt_head import PromptHead
from everything.errors import WeightsError
from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.build import build as load_whole
from everything.recipes.resolve import resolve
from everything.samplers import SAMPLERS
from everything.variants import VARIANTS
from tests.photos import photo
from tests.variants.fingerprints import FINGERPRINTS
from tests.variants.synthetic import blueprint, checkpoint, options

NAMES = [name for name in VARIANTS if VARIANTS[name].family != "embedded"]
MADE_HERE = ("q-tinysam", "lite-sam")  # of which nobody publishes a file that can be loaded
OFFICIAL = [name for name in NAMES if name not in MADE_HERE]
of_the_survey = pytest.mark.parametrize("variant", NAMES, indirect=True)
PHOTO = photo("chelsea", 160)
PHOTOS = {
    "landscape": PHOTO,
    "portrait": np.ascontiguousarray(PHOTO.transpose(1, 0, 2)),
    "square": np.ascontiguousarray(PHOTO[:, :106]),
}
SAMPLER_SETTINGS: dict[str, dict[str, object]] = {
    "grid": {"points_per_side": 2},
    "hierarchical": {"points_per_side": 8},
    "object-aware": {"conf": 0.0, "max_det": 9},
    "auto-ppn": {"conf": 0.0, "max_points": 4, "max_boxes": 3},
    "all-instance": {"conf": 0.0, "max_det": 9},
}
SIZES = {"landscape": (213, 320), "portrait": (320, 213), "square": (200, 200), "strip": (30, 640)}


def build(
    name: str,
    small: bool = True,
    compute: Compute = ON_CPU,
    decoding: Decoding = DEFAULT_DECODING,
) -> Any:
    """A variant with synthetic weights, or one that was trained here, with its own."""
    if VARIANTS[name].family == "embedded":
        recipe = resolve(name).model_copy(update={"compute": compute, "decoding": decoding})
        return load_whole(recipe).model
    module = VARIANTS[name].network_module()
    state = checkpoint(blueprint(name, small))
    return module.build(state, "synthetic.pth", compute, decoding, **options(name, small))


@dataclass
class EncodedOnce:
    """A model that sees each of the photos of these tests once: encoders take seconds."""

    model: Any
    embeddings: dict[Size, Any] = field(default_factory=dict)
    encoded: int = 0

    def frame(self, view: Size) -> Frame:
        frame: Frame = self.model.frame(view)
        return frame

    def encode(self, view: View) -> Any:
        self.encoded += 1
        if view.size not in self.embeddings:
            self.embeddings[view.size] = self.model.encode(view)
        return self.embeddings[view.size]

    def features(self, embedding: Any) -> torch.Tensor:
        features: torch.Tensor = self.model.features(embedding)
        return features

    def propose(self, embedding: Any, prompts: Prompts, multimask_output: bool) -> Candidates:
        candidates: Candidates = self.model.propose(embedding, prompts, multimask_output)
        return candidates


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, EncodedOnce]:
    return request.param, EncodedOnce(build(request.param))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_every_record_has_a_fingerprint() -> None:
    assert sorted(FINGERPRINTS) == sorted(OFFICIAL)


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_and_shapes_are_the_official_ones(name: str) -> None:
    plan = blueprint(name)
    shapes = plan.shapes()
    lines = "\n".join(sorted(f"{key} {list(shape)}" for key, shape in shapes.items()))
    elements = sum(shape.numel() for shape in shapes.values())
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert (len(shapes), elements, digest) == FINGERPRINTS[name]
    own = sum(p.numel() for p in plan.network.parameters())
    # Of SAM 2, the record counts the video half too, which is not loaded.
    assert own <= VARIANTS[name].parameters if plan.unused else own == VARIANTS[name].parameters


def test_nothing_is_left_without_values(variant: tuple[str, EncodedOnce]) -> None:
    network = variant[1].model.network
    tensors = [*network.parameters(), *network.buffers()]
    assert tensors
    assert not any(tensor.is_meta for tensor in tensors)
    assert not any(module.training for module in network.modules())


@of_the_survey
def test_every_part_of_the_checkpoint_is_used(variant: tuple[str, EncodedOnce]) -> None:
    name, model = variant
    plan = blueprint(name, small=True)
    state, own = checkpoint(plan), model.model.network.state_dict()
    for key, official in plan.official_names().items():
        assert torch.equal(own[key], _expected(state, official)), key


def _expected(state: dict[str, torch.Tensor], official: str) -> torch.Tensor:
    if "*" not in official:
        return state[official]
    rows = [name for name in state if re.fullmatch(official.replace("*", r"\d+"), name)]
    return torch.cat([state[name] for name in sorted(rows)])


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_that_does_not_fit_is_refused(name: str) -> None:
    plan = blueprint(name, small=True)
    whole = {key: torch.empty(shape, device="meta") for key, shape in plan.shapes().items()}
    some = sorted(whole)[len(whole) // 2]
    misfits = {
        "missing": {key: tensor for key, tensor in whole.items() if key != some},
        "unknown": {**whole, "extra.weight": torch.empty(1)},
        "of another shape": {**whole, some: torch.empty((3, *whole[some].shape))},
    }
    for what, state in misfits.items():
        error = rf"^some\.pth: not weights of this variant: 1 {what} \(.*--variant$"
        with pytest.raises(WeightsError, match=error):
            plan.load(state, "some.pth")


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_prompts_land_where_they_should(variant: tuple[str, EncodedOnce], size: Size) -> None:
    frame = variant[1].frame(size)
    height, width = size
    xy = torch.tensor([[0.0, 0.0], [width, height], [width / 3, height / 7]], dtype=torch.float64)
    on_canvas = frame.to_canvas(xy)
    assert torch.allclose(frame.from_canvas(on_canvas), xy, atol=1e-3)
    x0, y0, x1, y1 = frame.content
    assert torch.allclose(on_canvas[:2], torch.tensor([[x0, y0], [x1, y1]]).double())
    assert 0 <= x0 < x1 <= frame.canvas[1]
    assert 0 <= y0 < y1 <= frame.canvas[0]


@of_the_survey
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_encoder_sees_the_view_where_the_frame_says(
    variant: tuple[str, EncodedOnce], size: Size
) -> None:
    model = variant[1].model
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 2 :, width // 2 :] = 255
    seen = model.pixels(whole(pixels))
    assert seen.dtype == torch.float32
    assert seen.shape == (1, 3, seen.shape[2], seen.shape[2])
    assert torch.isfinite(seen).all()
    # The middle of the white quarter, and of the black one across from it.
    scale = seen.shape[2] / model.frame(size).canvas[0]
    points = torch.tensor([[0.75 * width, 0.75 * height], [0.25 * width, 0.25 * height]])
    (xw, yw), (xb, yb) = (model.frame(size).to_canvas(points) * scale).long().tolist()
    white, black = seen[0, :, yw, xw], seen[0, :, yb, xb]
    assert ((white > 2.0) & (black < -1.7)).all()


@pytest.mark.parametrize("multimask_output", [True, False])
@pytest.mark.parametrize("shape", PHOTOS)
def test_it_answers_clicks_and_boxes(
    variant: tuple[str, EncodedOnce], shape: str, multimask_output: bool
) -> None:
    model = variant[1]
    view = whole(PHOTOS[shape])
    frame = model.frame(view.size)
    clicks = Prompts.clicks(torch.tensor([[30.0, 20.0], [90.0, 60.0]]))
    boxes = Prompts.boxes(torch.tensor([[10.0, 10.0, 90.0, 80.0]]))
    for prompts in (clicks, boxes):
        moved = Prompts(frame.to_canvas(prompts.points), prompts.labels)
        candidates = model.propose(model.encode(view), moved, multimask_output)
        merged = VARIANTS[variant[0]].family == "HQ-SAM"
        levels = 3 if multimask_output and not merged else 1
        assert candidates.scores.shape == (len(prompts) * levels,)
        assert candidates.prompt.tolist() == [p for p in range(len(prompts)) for _ in range(levels)]
        assert candidates.level.tolist() == list(range(levels)) * len(prompts)
        rows = torch.tensor([levels * len(prompts) - 1, 0])
        logits = candidates.draw(rows)
        cell = 1 if variant[0].startswith("ucm") else 4
        assert logits.shape == (2, frame.canvas[0] // cell, frame.canvas[1] // cell)
        assert torch.isfinite(logits).all()
        assert torch.isfinite(candidates.scores).all()
        assert frame.to_view(logits).shape == (2, *view.size)


@of_the_survey
def test_prompts_matter(variant: tuple[str, EncodedOnce]) -> None:
    model = variant[1]
    view = whole(PHOTO)
    xy = model.frame(view.size).to_canvas(torch.tensor([[30.0, 20.0], [90.0, 60.0]]).double())
    candidates = model.propose(model.encode(view), Prompts.clicks(xy), False)
    one, other = candidates.draw(torch.arange(2))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("name", SAMPLER_SETTINGS)
def test_every_sampler_runs_on_it(
    variant: tuple[str, EncodedOnce], name: str, tmp_path: Path
) -> None:
    model = variant[1]
    checked: Model = model
    settings = dict(SAMPLER_SETTINGS[name])
    if name == "auto-ppn":
        channels = model.features(model.encode(whole(PHOTO))).shape[1]
        settings["head"] = str(tmp_path / "head.safetensors")
        save_file(PromptHead(channels, 8).state_dict(), settings["head"])
    sets = [f"sampler.{key}={value}" for key, value in settings.items()]
    everything = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    recipe = resolve(variant[0], checkpoint_of_any(tmp_path), name, None, sets, everything)
    sampler = SAMPLERS[name].load()(**settings)
    encoded, timer = model.encoded, StageTimer()
    found = segment(PHOTO, Pipeline(checked, sampler, recipe), timer)
    assert model.encoded - encoded == (0 if name == "all-instance" else 1)
    assert (timer.counts["prompts"] > 0) == (name != "all-instance")
    assert timer.counts["candidates"] >= len(found) > 0
    height, width = PHOTO.shape[:2]
    masks = rle.decode(found.rles, (height, width))
    assert masks.any((1, 2)).all()
    for record in found.to_sa1b():
        assert np.isfinite(record["predicted_iou"])
        assert all(0 <= x <= width and 0 <= y <= height for x, y in record["point_coords"])


def checkpoint_of_any(folder: Path) -> Path:
    """A file to be hashed, in which no half is missing."""
    names = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    torch.save({name + "x": torch.zeros(1) for name in names}, folder / "synthetic.pth")
    return folder / "synthetic.pth"
