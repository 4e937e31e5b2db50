from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import save_file

from everything.bundled.boundary_net import BoundaryNet, BoundaryNetwork
from everything.bundled.nano import Nano
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.errors import WeightsError
from everything.io.datasets.label_maps import LabelledImage
from everything.training.augment import Crop
from everything.training.loop import Budget
from everything.training.nano import (
    NanoTraining,
    Task,
    compare_masks,
    sample_prompts,
    shipped,
    started_from,
    train_nano,
)
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.nano import build

SIDES = ((128, 96),)


def truth() -> LabelledImage:
    photo = skimage.data.astronaut()[:96, :128]
    halves = np.ones((2, 96, 128), np.int16)
    halves[0, :, 64:] = 2
    halves[1, 30:70, 20:100] = 2
    return LabelledImage("astronaut", np.ascontiguousarray(photo), halves)


def crop(labels: torch.Tensor) -> Crop:
    return Crop(torch.zeros(1, 3, 2 * labels.shape[1], 2 * labels.shape[2]), labels)


def test_targets_are_the_regions_under_the_clicks() -> None:
    labels = torch.ones(2, 48, 64, dtype=torch.int64)
    labels[0, :, 31:] = 2  # not on a cell's edge: the cells there are half covered
    labels[1, 10:30, 10:40] = 7
    task = sample_prompts(crop(labels), torch.Generator().manual_seed(0))
    assert task is not None
    assert len(task.clicks) + len(task.boxes) == len(task.targets) == 24
    for (x, y), targets, weights in zip(task.clicks, task.targets, task.weights, strict=False):
        assert weights.tolist() == pytest.approx([0.5, 0.5])
        areas = set()
        for target in targets:
            assert target[int(y) // 4, int(x) // 4] > 0
            areas.add(float(target.sum()))
        assert areas <= {24 * 15.5, 24 * 16.5, 150.0, 24 * 32 - 150.0}
    assert set(task.targets.unique().tolist()) == {0.0, 0.5, 1.0}


def test_boxes_are_about_their_region() -> None:
    labels = torch.ones(1, 48, 64, dtype=torch.int64)
    labels[0, 10:30, 10:50] = 2
    found = []
    for seed in range(4):
        task = sample_prompts(crop(labels), torch.Generator().manual_seed(seed))
        assert task is not None
        found += [box for box in task.boxes if box[2] - box[0] < 110]
    mean = torch.stack(found).mean(0).tolist()
    assert mean == pytest.approx([20, 20, 100, 60], abs=5)


@pytest.mark.parametrize("labels", [torch.zeros(1, 48, 64), torch.eye(48)[None]])
def test_nothing_is_asked_where_nothing_large_enough_is_known(labels: torch.Tensor) -> None:
    labels = labels.long()
    labels[:, 20:] = 0
    assert sample_prompts(crop(labels), torch.Generator().manual_seed(0)) is None


def task_of(targets: torch.Tensor) -> Task:
    count = targets.shape[1]
    weights = torch.full((1, count), 1 / count)
    return Task(torch.zeros(1, 2), torch.zeros(0, 4), targets, weights, torch.ones(8, 8))


def test_right_answers_cost_next_to_nothing_in_any_order() -> None:
    targets = torch.zeros(1, 3, 8, 8)
    targets[0, 0, 2:4, 2:4] = targets[0, 1, :4, :4] = targets[0, 2] = 1
    logits = (targets[:, [1, 2, 0, 1]] - 0.5) * 40
    losses = compare_masks(logits, torch.ones(1, 4), task_of(targets))
    assert {name: round(float(loss), 4) for name, loss in losses.items()} == {
        "masks": 0,
        "single": 0,
        "iou": 0,
    }


def test_a_missed_region_costs_and_so_does_a_mask_of_nothing() -> None:
    targets = torch.zeros(1, 2, 8, 8)
    targets[0, 0, :4], targets[0, 1, 4:] = 1, 1
    good = (targets[:, [0, 0, 1, 1]] - 0.5) * 40
    missed = (targets[:, [0, 0, 0, 0]] - 0.5) * 40
    stray = good.clone()
    stray[0, 3] = -stray[0, 3].roll(2, 0)
    losses = [compare_masks(x, torch.ones(1, 4), task_of(targets)) for x in (good, missed, stray)]
    assert losses[1]["masks"] > losses[2]["masks"] > losses[0]["masks"] + 0.05
    assert losses[1]["iou"] == losses[0]["iou"] == 0
    assert losses[2]["iou"] > 0


def test_the_loss_falls() -> None:
    training = NanoTraining([truth()], Budget(steps=16), 0, sides=SIDES)
    losses = [training.step() for _ in range(16)]
    totals = torch.tensor([sum(step.values()) for step in losses])
    assert totals.isfinite().all()
    assert totals[-4:].mean() < 0.95 * totals[:4].mean()


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    through = NanoTraining([truth()], Budget(steps=4), 0, sides=SIDES)
    expected = [through.step() for _ in range(4)]
    first = NanoTraining([truth()], Budget(steps=4), 0, sides=SIDES)
    found = [first.step() for _ in range(2)]
    first.save(tmp_path)
    second = NanoTraining([truth()], Budget(steps=4), 1, sides=SIDES)
    second.resume(tmp_path)
    assert second.steps == 2
    found += [second.step() for _ in range(2)]
    assert found == expected


@pytest.mark.parametrize("prefix", ["", "boundary."])
@pytest.mark.parametrize("network", [BoundaryNet, PretrainedBoundaryNet])
def test_the_trunk_starts_as_a_boundary_network(
    tmp_path: Path, prefix: str, network: type[BoundaryNetwork]
) -> None:
    torch.manual_seed(3)
    boundary = network().eval()
    file = tmp_path / "ucm.safetensors"
    save_file({prefix + name: value for name, value in boundary.state_dict().items()}, file)
    trunk = started_from(file).eval().image_encoder.trunk
    rgb = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for maps, right in zip(trunk.pyramid(rgb), boundary.pyramid(rgb), strict=True):
            torch.testing.assert_close(maps, right, rtol=1e-4, atol=1e-4)


def test_weights_with_a_backbone_ship_folded(tmp_path: Path) -> None:
    file = tmp_path / "ucm.safetensors"
    save_file(PretrainedBoundaryNet().state_dict(), file)
    training = NanoTraining([truth()], Budget(steps=4), 0, file, sides=SIDES)
    before = training.net.image_encoder.trunk.encoder.stem.weight.detach().clone()
    training.step()
    training.step()  # the first one's rate is next to nothing
    weights = shipped(training.net)
    after = weights["image_encoder.trunk.encoder.stem.weight"]
    assert not torch.equal(after, before.half())
    model = build(weights, "nowhere")
    assert model.network.state_dict().keys() == Nano("lite0").state_dict().keys()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_file({"head": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no boundary network"):
        started_from(tmp_path / "other.safetensors")


def test_a_folder_becomes_weights_that_load(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    Image.fromarray(truth().pixels).save(tmp_path / "images" / "a.png")
    np.save(tmp_path / "labels" / "a.npy", truth().labels)
    lines: list[str] = []
    file = train_nano([tmp_path], tmp_path / "out", Budget(steps=1), on_message=lines.append)
    assert lines[0] == "1 images"
    assert lines[1].startswith("step 1, 100.0%: masks ")
    assert "1 steps" in file.with_suffix(".md").read_text()
    assert file.stat().st_size < 7e6
    build(read_state(file), str(file))


def test_no_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match="no photos to train on"):
        train_nano([tmp_path], tmp_path / "out", Budget(steps=1))
