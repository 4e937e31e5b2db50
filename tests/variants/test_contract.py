"""What every variant must do: take its official checkpoint whole, see a photo, answer prompts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from everything.errors import WeightsError
from everything.loading import resolve
from everything.model import Drafts, Model
from everything.pipeline import Pipeline, segment
from everything.prompts import Prompts
from everything.variants import VARIANTS
from everything.view import Frame, Size, View, whole
from samplers.grid import Grid
from tests.photos import photo
from tests.variants.fingerprints import FINGERPRINTS
from tests.variants.synthetic import blueprint, checkpoint, options

NAMES = [name for name in VARIANTS if VARIANTS[name].family != "embedded"]
SIZES = {"landscape": (213, 320), "portrait": (320, 213), "square": (200, 200), "strip": (30, 640)}


def build(name: str, small: bool = True) -> Any:
    module = import_module(f"everything.variants.{VARIANTS[name].module}")
    state = checkpoint(blueprint(name, small))
    return module.build(state, "synthetic.pth", **options(name, small))


@dataclass
class EncodedOnce:
    """A model that sees the one photo of these tests once: encoders take seconds."""

    model: Any
    embedding: Any = None

    def frame(self, view: Size) -> Frame:
        frame: Frame = self.model.frame(view)
        return frame

    def encode(self, view: View) -> Any:
        if self.embedding is None:
            self.embedding = self.model.encode(view)
        return self.embedding

    def propose(self, embedding: Any, prompts: Prompts, multimask_output: bool) -> Drafts:
        drafts: Drafts = self.model.propose(embedding, prompts, multimask_output)
        return drafts


@pytest.fixture(scope="module", params=NAMES)
def variant(request: pytest.FixtureRequest) -> tuple[str, EncodedOnce]:
    return request.param, EncodedOnce(build(request.param))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_every_record_has_a_fingerprint() -> None:
    assert sorted(FINGERPRINTS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
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
        "not known": {**whole, "extra.weight": torch.empty(1)},
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
def test_it_answers_clicks_and_boxes(
    variant: tuple[str, EncodedOnce], multimask_output: bool
) -> None:
    model = variant[1]
    view = whole(photo("chelsea"))
    frame = model.frame(view.size)
    clicks = Prompts.clicks(torch.tensor([[30.0, 40.0], [200.0, 100.0]]))
    boxes = Prompts.boxes(torch.tensor([[10.0, 10.0, 90.0, 80.0]]))
    for prompts in (clicks, boxes):
        moved = Prompts(frame.to_canvas(prompts.points), prompts.labels)
        drafts = model.propose(model.encode(view), moved, multimask_output)
        levels = 3 if multimask_output else 1
        assert drafts.scores.shape == (len(prompts) * levels,)
        assert drafts.prompt.tolist() == [p for p in range(len(prompts)) for _ in range(levels)]
        assert drafts.level.tolist() == list(range(levels)) * len(prompts)
        rows = torch.tensor([levels * len(prompts) - 1, 0])
        logits = drafts.draw(rows)
        assert logits.shape == (2, frame.canvas[0] // 4, frame.canvas[1] // 4)
        assert torch.isfinite(logits).all()
        assert torch.isfinite(drafts.scores).all()
        assert frame.to_view(logits).shape == (2, *view.size)


def test_prompts_matter(variant: tuple[str, EncodedOnce]) -> None:
    model = variant[1]
    view = whole(photo("chelsea"))
    xy = model.frame(view.size).to_canvas(torch.tensor([[30.0, 40.0], [200.0, 100.0]]).double())
    drafts = model.propose(model.encode(view), Prompts.clicks(xy), False)
    one, other = drafts.draw(torch.arange(2))
    assert (one - other).abs().max() > 1e-3


def test_the_grid_runs_on_it(variant: tuple[str, EncodedOnce], tmp_path: Path) -> None:
    name, model = variant
    file = tmp_path / "synthetic.pth"
    file.write_bytes(b"hashed, not read")
    checked: Model = model
    settings = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_side": 2}
    recipe = resolve(name, file, "grid", flags=settings)
    found = segment(photo("chelsea"), Pipeline(checked, Grid(points_per_side=2), recipe))
    assert len(found) > 0
    assert all(rle["size"] == list(photo("chelsea").shape[:2]) for rle in found.rles)
