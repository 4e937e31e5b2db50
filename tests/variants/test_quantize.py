"""From a checkpoint and photos to integers that answer nearly as the floats did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from everything.cli.main import app
from everything.config import Compute
from everything.core.geometry import whole
from everything.errors import ConfigError, InputError, StoreError, WeightsError
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks import q_tinysam, tinyvit
from everything.variants.quantize import mean_iou, quantize_encoder, quantize_tinysam
from tests.photos import NAMES, photo
from tests.variants.synthetic import checkpoint

SIDE = 256


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(checkpoint(tinyvit.blueprint(SIDE)), path)
    return path


@pytest.fixture(scope="module")
def photos() -> list[object]:
    return [photo(name, 200) for name in NAMES[:4]]


def test_q_tinysam_is_made_and_loads(floats: Path, photos: list, tmp_path: Path) -> None:
    out = tmp_path / "new" / "q.safetensors"
    made = quantize_tinysam(photos, out, checkpoint=floats, limit=3, side=SIDE)
    assert made.images == 3
    assert made.iou > 0.9
    assert made.size[1] < 0.6 * made.size[0]
    assert "masks of the same clicks overlap by 0.9" in str(made)
    state = read_state(out)
    integers = sum(t.numel() for t in state.values() if t.dtype == torch.int8)
    # Encoder: all but norms, biases, scales and positions is in integers.
    encoder = sum(t.numel() for n, t in state.items() if n.startswith("image_encoder."))
    assert integers / encoder > 0.98
    model = q_tinysam.build(state, str(out), side=SIDE)
    before = tinyvit.build(read_state(floats), str(floats), side=SIDE)
    assert mean_iou(before, model, [whole(photos[3])]) == pytest.approx(made.iou)
    with pytest.raises(ConfigError, match="q-tinysam runs in integers on the CPU"):
        q_tinysam.build(state, str(out), Compute(precision="bf16"), side=SIDE)
    with pytest.raises(WeightsError, match="not weights of this variant"):
        q_tinysam.build(read_state(floats), str(floats), side=SIDE)


def test_a_trained_model_keeps_its_masks_on_photos_it_was_not_calibrated_on() -> None:
    before, after = (build(resolve("nano")).model for _ in range(2))
    views = [whole(photo(name, 320)) for name in NAMES]
    quantize_encoder(after, views[:5])
    assert mean_iou(before, after, views[5:]) > 0.9


def test_what_cannot_be_quantised_says_so(
    floats: Path, photos: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "q.safetensors"
    with pytest.raises(ConfigError, match="variant 'sam-vit-b': tinysam and mobilesam"):
        quantize_tinysam(photos, out, variant="sam-vit-b", checkpoint=floats)
    with pytest.raises(InputError, match="no images to calibrate on"):
        quantize_tinysam([], out, checkpoint=floats, side=SIDE)
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    with pytest.raises(ConfigError, match="pip install torchao"):
        quantize_tinysam(photos, out, checkpoint=floats, side=SIDE)
    assert not out.exists()


def test_no_file_is_replaced(floats: Path, photos: list, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    before = floats.read_bytes()
    for out in (tmp_path / "mine", tmp_path / "link", floats):
        with pytest.raises(StoreError, match="exists, and is not replaced: give another --out"):
            quantize_tinysam(photos, out, checkpoint=floats, side=SIDE)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert floats.read_bytes() == before


@pytest.mark.slow
def test_the_command_makes_what_label_takes(tmp_path: Path) -> None:
    save_file(checkpoint(tinyvit.blueprint()), tmp_path / "tiny.safetensors")
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo("chelsea", 160)).save(tmp_path / "photos" / "cat.png")
    given = [
        "--checkpoint",
        str(tmp_path / "tiny.safetensors"),
        "--out",
        str(tmp_path / "q.safetensors"),
    ]
    made = CliRunner().invoke(app, ["quantize", str(tmp_path / "photos"), *given])
    assert made.exit_code == 0, made.output
    assert "calibrated on 1 images" in made.stdout
    assert "--variant q-tinysam --checkpoint" in made.stdout
    labels = ["--sampler", "grid", "--points-per-side", "2", "--pred-iou-thresh", "0"]
    labelled = CliRunner().invoke(
        app,
        ["label", str(tmp_path / "photos"), "--out", str(tmp_path / "labels"), "--variant",
         "q-tinysam", "--checkpoint", given[3], "--no-preview", *labels],
    )  # fmt: skip
    assert labelled.exit_code == 0, labelled.output
    assert list((tmp_path / "labels" / "annotations").rglob("*.json"))
