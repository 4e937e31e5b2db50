"""The training of ucm: a few steps, a stop, and going on as if nothing had happened."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from everything.bundled.ucm import Ucm
from everything.cli.main import app
from everything.errors import ConfigError, EverythingError
from everything.io.datasets.label_maps import LabelledImage
from everything.io.storage.ownership import MARKER
from everything.training.augment import RandomCrops
from everything.training.loop import Budget
from everything.training.ucm import (
    BoundaryTraining,
    divided,
    examples,
    shipped,
    train_scorer,
    train_ucm,
)
from everything.variants.networks import ucm as networks
from everything.variants.networks.ucm import build

SMALL = RandomCrops(sides=(96, 64))


def rooms(seed: int, height: int = 64, width: int = 96) -> LabelledImage:
    """A photo of four flat rooms, marked by two people of whom one saw only two."""
    random = np.random.default_rng(seed)
    x, y = int(random.integers(30, 60)), int(random.integers(20, 40))
    fine = np.ones((height, width), np.int16)
    fine[:, x:] += 1
    fine[y:] += 2
    coarse = np.where(np.arange(width) < x, 1, 2).astype(np.int16) + np.zeros_like(fine)
    colours = random.integers(0, 256, (5, 3), dtype=np.uint8)
    return LabelledImage(f"rooms {seed}", colours[fine], np.stack([fine, coarse]))


def folder_of(path: Path, count: int) -> Path:
    for kind in ("images", "labels"):
        (path / kind).mkdir(parents=True)
    for i in range(count):
        truth = rooms(i)
        Image.fromarray(truth.pixels).save(path / "images" / f"{i}.png")
        np.save(path / "labels" / f"{i}.npy", truth.labels)
    return path


def test_a_stopped_training_goes_on_where_it_was(tmp_path: Path) -> None:
    truths = [rooms(i) for i in range(3)]
    budget = Budget(steps=4)
    straight = BoundaryTraining(truths, budget, 5, SMALL)
    for _ in range(4):
        straight.step()
    stopped = BoundaryTraining(truths, budget, 5, SMALL)
    for _ in range(2):
        stopped.step()
    stopped.save(tmp_path)
    resumed = BoundaryTraining(truths, budget, 5, SMALL)
    resumed.resume(tmp_path)
    assert resumed.steps == 2
    assert resumed.progress == 0.5
    for _ in range(2):
        resumed.step()
    for a, b in zip(straight.mean.parameters(), resumed.mean.parameters(), strict=True):
        assert torch.equal(a, b)


def test_images_held_out_are_looked_at_and_not_learned() -> None:
    training = BoundaryTraining([rooms(0)], Budget(steps=20), 0, SMALL, held_out=[rooms(1)])
    before = training.check()
    assert training.check() == before, "neither random nor trained by it"
    for _ in range(20):
        training.step()
    after = training.check()
    assert sum(after.values()) < sum(before.values())


def test_losses_fall() -> None:
    training = BoundaryTraining([rooms(0)], Budget(steps=25), 0, SMALL)
    losses = [sum(training.step().values()) for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_command_ends_with_weights_that_the_variant_loads(tmp_path: Path) -> None:
    said: list[str] = []
    truth = folder_of(tmp_path / "truth", 5)
    out = tmp_path / "out"
    file = train_ucm([truth], out, steps=2, on_message=said.append, crops=SMALL)
    build(load_file(file), str(file))
    assert file.stat().st_size < 12e6
    assert "non-commercial" in said[0]
    assert "seed 0" in (out / "ucm.md").read_text()
    again = train_ucm([truth], out, steps=2, resume=True, on_message=said.append, crops=SMALL)
    assert load_file(again).keys() == load_file(file).keys()


def test_the_scorer_alone_is_fitted_as_it_was_with_its_network(tmp_path: Path) -> None:
    truth = folder_of(tmp_path / "truth", 3)
    file = train_ucm([truth], tmp_path / "out", steps=1, on_message=lambda _: None, crops=SMALL)
    printable = tmp_path / "again"
    again = load_file(train_scorer([truth], printable, file, on_message=lambda _: None))
    assert "ucm.safetensors, kept" in (printable / "ucm.md").read_text()
    for name, value in load_file(file).items():
        if name.startswith("boundary"):
            assert torch.equal(again[name], value)
        else:  # the network is rounded now
            assert again[name].shape == value.shape
    twice = load_file(train_scorer([truth], tmp_path / "twice", file, on_message=lambda _: None))
    assert all(torch.equal(again[name], value) for name, value in twice.items())


def test_photos_held_out_are_of_the_first_folder_and_not_learned() -> None:
    first, second = [rooms(i) for i in range(10)], [rooms(i) for i in range(20, 24)]
    part = LabelledImage("part", first[0].pixels, first[0].labels, complete=False)
    parts = divided([[*first, part], [*second, part]], seed=0)
    learned, held_out, alike = ({truth.name for truth in photos} for photos in parts)
    assert learned & held_out == set()
    assert len(held_out) == 2
    assert len(learned) == 12
    assert held_out | alike == {truth.name for truth in first}
    assert divided([first, second], seed=0).held_out == parts.held_out


def test_the_scorer_sees_what_was_held_out_twice_and_what_is_alike() -> None:
    parts = divided([[rooms(i) for i in range(10)], [rooms(20)]], seed=0)
    names = [truth.name for truth in examples(parts)]
    assert len(names) == 2 * 2 + 8
    assert sorted(set(names)) == sorted(f"rooms {i}" for i in range(10))
    plain, turned = list(examples(parts))[:2]
    assert (plain.pixels[:, ::-1] == turned.pixels).all()


def test_one_photo_is_not_enough() -> None:
    with pytest.raises(EverythingError, match="at least two"):
        divided([[rooms(0)]], seed=0)


def test_a_budget_is_minutes_or_steps() -> None:
    with pytest.raises(ConfigError, match="give either --minutes or --steps"):
        Budget()
    with pytest.raises(ConfigError, match="give either --minutes or --steps"):
        Budget(minutes=1, steps=1)
    for budget in ({"minutes": 0}, {"steps": 0}, {"minutes": -1}):
        with pytest.raises(ConfigError, match="more --minutes or --steps than 0"):
            Budget(**budget)


def test_what_ships_is_small_and_precise_where_it_must_be() -> None:
    weights = shipped(Ucm())
    assert sum(w.nbytes for w in weights.values()) < 6e6
    kinds = {name.split(".")[0]: w.dtype for name, w in weights.items()}
    assert kinds == {"boundary": torch.float16, "scorer": torch.float32}


@pytest.mark.parametrize(("encoder", "architecture"), [("none", "none"), ("lite0-random", "lite0")])
def test_the_encoder_can_be_chosen(tmp_path: Path, encoder: str, architecture: str) -> None:
    truth = folder_of(tmp_path / "truth", 3)
    file = train_ucm(
        [truth], tmp_path / "out", steps=1, on_message=lambda _: None, crops=SMALL, encoder=encoder
    )
    state = load_file(file)
    assert networks.architecture(state) == architecture
    network = build(state, str(file)).network.boundary
    assert len(network.scales) == (1 if architecture == "lite0" else 2)


def test_only_known_encoders_are_trained(tmp_path: Path) -> None:
    truth = folder_of(tmp_path / "truth", 2)
    given = ["train", "ucm", str(truth), "--out", str(tmp_path / "out"), "--steps", "1"]
    refused = CliRunner().invoke(app, [*given, "--encoder", "lite7"])
    assert refused.exit_code != 0
    assert "lite0, lite0-random, none" in refused.output
    assert not (tmp_path / "out").exists()


def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """Results of `label` for four images, and the folder of the images."""
    photos = folder_of(tmp_path / "truth", 4) / "images"
    labels = tmp_path / "labels"
    done = CliRunner().invoke(
        app, ["label", str(photos), "--out", str(labels), "--no-preview", "--sampler", "grid-16"]
    )
    assert done.exit_code == 0, done.output
    return labels, photos


def test_its_own_results_and_coco_exports_are_ground_truth(tmp_path: Path) -> None:
    labels, photos = labelled(tmp_path)
    moved = photos.rename(tmp_path / "moved")
    coco = tmp_path / "coco"
    given = [str(labels), "--to", "coco", "--out", str(coco), "--photos-from", str(moved)]
    exported = CliRunner().invoke(app, ["export", *given])
    assert exported.exit_code == 0, exported.output
    file = coco / "annotations" / "instances_default.json"
    for truth in (labels, file):
        out = tmp_path / f"trained on {truth.name}"
        trained = train_ucm(
            [truth],
            out,
            steps=1,
            on_message=lambda _: None,
            crops=SMALL,
            encoder="none",
            images=moved,
        )
        assert trained.is_file()


def test_a_training_is_not_replaced_unasked(tmp_path: Path) -> None:
    truth, out = folder_of(tmp_path / "truth", 3), tmp_path / "out"

    def train(**how: bool) -> None:
        train_ucm(
            [truth], out, steps=1, on_message=lambda _: None, crops=SMALL, encoder="none", **how
        )

    with pytest.raises(EverythingError, match="no training to resume"):
        train(resume=True)
    out.mkdir()
    (out / "ucm.md").write_text("mine")
    with pytest.raises(EverythingError, match=r"ucm\.md: not written by this command"):
        train()
    assert [file.name for file in out.iterdir()] == ["ucm.md"]
    (out / "ucm.md").unlink()
    train()
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(EverythingError, match="holds a training"):
        train()
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    (out / "ucm.md").write_text("my notes")
    train(resume=True)
    assert (out / "ucm.md").read_text() == "my notes"
    assert "boundary network" in (out / "ucm.model-card.md").read_text()
    (out / "mine.pt").write_text("mine")
    (out / MARKER).unlink()  # as versions without markers left it
    train(overwrite=True)
    assert (out / MARKER).is_file()
    assert (out / "mine.pt").read_text() == "mine"


def test_minutes_are_those_of_all_of_it(tmp_path: Path) -> None:
    truth = folder_of(tmp_path / "truth", 12)
    said: list[str] = []
    start = time.monotonic()
    train_ucm(
        [truth], tmp_path / "out", minutes=0.3, on_message=said.append, crops=SMALL, encoder="none"
    )
    # Of 18 s; a tenth, and what a busy machine takes for one step and for writing.
    assert 14 < time.monotonic() - start < 23
    spent = [float(share) for share in re.findall(r"([\d.]+)%", "\n".join(said))]
    assert spent
    assert max(spent) <= 100
    assert any("fitting the scorer" in line for line in said)
