"""The head learns where objects are, from labels on a model's own features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from everything.core.geometry import Frame, Size, View, padded_frame
from everything.detectors.prompt_head import UNIT, PromptHead, cells, propose
from everything.errors import ConfigError, InputError
from everything.io.datasets.label_maps import LabelledImage
from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.build import load
from everything.recipes.resolve import resolve
from everything.samplers.auto_ppn import AutoPpn
from everything.training.auto_ppn import (
    AutoPpnTraining,
    make_example,
    region_centres,
    train_auto_ppn,
)
from everything.training.data import read_training_images
from everything.training.loop import Budget
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.labelled import disc, write_labels
from tests.photos import photo

SIDE, CELL = 64, 8


class Colours:
    """A model whose features are the view's colours on a padded canvas."""

    def frame(self, view: Size) -> Frame:
        return padded_frame(view, SIDE)

    def encode(self, view: View) -> View:
        return view

    def features(self, embedding: View) -> torch.Tensor:
        x1, y1 = self.frame(embedding.size).content[2:]
        rgb = torch.from_numpy(embedding.pixels.copy()).permute(2, 0, 1)[None].float() / 255
        on_canvas = torch.nn.functional.interpolate(rgb, (y1, x1), mode="bilinear")
        padded = torch.nn.functional.pad(on_canvas, (0, SIDE - x1, 0, SIDE - y1))
        return torch.nn.functional.avg_pool2d(padded, CELL)


def square(x: int, y: int, side: int, size: Size = (48, 64)) -> LabelledImage:
    """A bright square on dark ground."""
    labels = np.ones((1, *size), np.int16)
    labels[0, y : y + side, x : x + side] = 2
    photo = np.where(labels[0, ..., None] == 2, 220, 30).astype(np.uint8).repeat(3, 2)
    return LabelledImage(f"{x} {y} {side}", photo, labels)


def brute_middles(labels: NDArray[np.int16]) -> NDArray[np.float64]:
    """Distances to the nearest pixel that touches another region or the edge, one by one."""
    height, width = labels.shape
    padded = np.pad(labels, 1, constant_values=-1)
    contour = [
        (y, x)
        for y in range(height)
        for x in range(width)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))
        if padded[y + dy, x + dx] != labels[y, x]
    ]
    distance = np.array(
        [
            [min(np.hypot(y - v, x - u) for v, u in contour) + 0.5 for x in range(width)]
            for y in range(height)
        ]
    )
    share = np.zeros(labels.shape)
    for label in range(1, labels.max() + 1):
        region = labels == label
        if region.any():
            share[region] = (distance[region] / distance[region].max()) ** 2
    return share


@pytest.mark.parametrize("seed", range(3))
def test_middles(seed: int):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, (3, 4)).repeat(4, 0).repeat(3, 1).astype(np.int16)
    assert np.allclose(region_centres(labels), brute_middles(labels))


@pytest.mark.parametrize(
    "labels", [np.ones((1, 1)), np.zeros((3, 4)), np.ones((5, 5)), np.full((2, 3), 7)]
)
def test_middles_of_plain_maps(labels: NDArray[np.float64]):
    found = region_centres(labels.astype(np.int16))
    assert np.allclose(found.max(), float(labels.max() > 0))


def test_a_lesson_tells_the_middle_and_the_box_of_each_place():
    truth = square(16, 8, 24)
    example = make_example(Colours(), truth, mirrored=False)
    assert example.features.shape == (1, 3, 8, 8)
    assert example.heat.shape == (16, 16)
    # The photo fills the canvas's width: a cell of the head has 4 px of it.
    row, column = divmod(int(example.heat[3:7, 5:9].argmax()), 4)
    assert example.heat[3 + row, 5 + column] > 0.8
    assert example.heat[12:].max() == 0  # padding
    at = (5, 7)
    x, y = cells((SIDE, SIDE), (16, 16))[at].tolist()
    expected = torch.tensor([x - 16, y - 8, 40 - x, 32 - y])
    told = torch.exp(example.sides[0, :, *at].float()) * SIDE / UNIT
    assert torch.allclose(told, expected, rtol=5e-3)


def test_the_mirrored_lesson_is_the_mirror_image():
    plain, mirrored = (make_example(Colours(), square(12, 8, 24), m) for m in (False, True))
    assert torch.allclose(plain.heat, mirrored.heat.flip(1), atol=1e-5)
    assert torch.allclose(plain.features, mirrored.features.flip(3), atol=1e-3)
    assert torch.allclose(plain.sides[:, 0], mirrored.sides[:, 2].flip(2), atol=2e-2)


def test_what_nobody_marked_is_unknown_unless_all_was_marked():
    truth = square(16, 8, 24)
    objects = np.where(truth.labels == 2, 1, 0).astype(np.int16)
    for complete in (False, True):
        example = make_example(
            Colours(), LabelledImage("a", truth.pixels, objects, complete), False
        )
        assert bool(example.heat[0, 0].isnan()) is not complete
        assert example.heat[13, 0] == 0
        assert (example.weight[0, 0] == 0).all()


def trained(steps: int, folder: Path | None = None, first: int | None = None) -> AutoPpnTraining:
    truths = [square(x, y, side) for x in (6, 20, 34) for y in (4, 14) for side in (12, 20)]
    training = AutoPpnTraining(Colours(), truths, Budget(steps=steps), seed=0, width=16)
    while training.steps < (first or steps):
        training.step()
    if folder is not None and first is not None:
        training.save(folder)
        training = AutoPpnTraining(Colours(), truths, Budget(steps=steps), seed=0, width=16)
        training.resume(folder)
        while training.steps < steps:
            training.step()
    return training


def test_it_finds_squares_that_it_has_not_seen():
    training = trained(400)
    view, frame = square(27, 9, 16), padded_frame((48, 64), SIDE)
    example = make_example(Colours(), view, False)
    found = propose(
        training.mean(example.features), frame, conf=0.3, iou=0.7, max_points=3, max_boxes=3
    )
    inside = (found.points > torch.tensor([27, 9])) & (found.points < torch.tensor([43, 25]))
    assert inside.all(1).any()
    assert (found.boxes - torch.tensor([27, 9, 43, 25])).abs().amax(1).min() < 4


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path):
    whole, stopped = trained(30), trained(30, tmp_path, first=13)
    for one, other in zip(whole.net.parameters(), stopped.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_takes_any_variant():
    training = AutoPpnTraining(
        SamModel(blob_sam()), [square(10, 10, 20)], Budget(steps=2), seed=0, width=16
    )
    assert len(training.net.mean) == 64
    losses = [training.step() for _ in range(2)]
    assert all(np.isfinite(list(one.values())).all() for one in losses)


def test_no_photos_is_an_error():
    with pytest.raises(ValueError, match="no photos"):
        AutoPpnTraining(Colours(), [], Budget(steps=1), seed=0)


def test_labels_of_this_program_are_truth(tmp_path: Path):
    photos, labels = tmp_path / "photos", tmp_path / "labels"
    masks = {
        f"{n}.png": [disc((40, 60), (20 + 5 * n, 20), 12), disc((40, 60), (20 + 5 * n, 20), 5)]
        for n in range(3)
    }
    write_labels(labels, photos, masks)
    truths = list(read_training_images(labels))
    for found, (large, small) in zip(truths, masks.values(), strict=True):
        assert not found.complete
        assert np.array_equal(found.labels[0] > 0, large)
        assert np.array_equal(found.labels[0] == 2, small)  # what is smaller lies on top
    (photos / "1.png").unlink()
    assert len(list(read_training_images(labels))) == 2
    moved = tmp_path / "moved"
    photos.rename(moved)
    with pytest.raises(InputError, match="no image can be used"):
        list(read_training_images(labels))
    assert len(list(read_training_images(labels, images=moved))) == 2


def test_a_dense_grid_is_distilled_into_a_head(tmp_path: Path):
    write_labels(
        tmp_path / "labels",
        tmp_path / "photos",
        {f"{n}.png": [disc((40, 60), (20 + 5 * n, 20), 12)] for n in range(3)},
    )
    told: list[str] = []
    out = tmp_path / "head"
    budget = Budget(steps=4)
    head = train_auto_ppn(
        [tmp_path / "labels"], out, budget, variant="ucm", width=16, on_message=told.append
    )
    card = (out / "README.md").read_text()
    assert "AutoPPN head for ucm" in card
    assert "3 photos of labels" in card
    assert told
    pipeline = load("ucm", "auto-ppn", head=str(head), conf=0.0)
    assert len(segment(photo("chelsea", 96), pipeline)) > 0


def test_a_head_of_another_variant_is_refused(tmp_path: Path):
    save_file(PromptHead(5, 16).state_dict(), tmp_path / "head.safetensors")
    pipeline = load("ucm", "auto-ppn", head=str(tmp_path / "head.safetensors"))
    with pytest.raises(ConfigError, match="trained on 5 feature maps, ucm has 72"):
        segment(photo("chelsea", 96), pipeline)


def test_without_a_head_the_way_to_one_is_told():
    recipe = resolve("sam-vit-b", sampler="auto-ppn")
    pipeline = Pipeline(SamModel(blob_sam()), AutoPpn(), recipe)
    with pytest.raises(ConfigError, match="everything train auto-ppn --variant sam-vit-b"):
        segment(photo("chelsea", 96), pipeline)
