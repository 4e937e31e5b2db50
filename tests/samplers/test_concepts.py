"""Texts as prompts: which masks, under which names, in annotations and exports."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from everything import load, segment
from everything.detectors import concepts
from everything.errors import ConfigError, WeightsError
from everything.export import EXPORTERS
from everything.export.run import export
from everything.io.images.sources import list_inputs
from everything.io.results.reader import Results
from everything.jobs.label import label
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from tests.detectors import tiny_concepts
from tests.export import class_readers
from tests.photos import photo
from tests.variants import tiny_transformers

PHOTO = photo("chelsea", 160)
SETS = ["sampler.concepts=a cat, dog,  a  cat,", "sampler.conf=0"]


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAM 3 as its authors publish it: one folder for video, with detector and tracker."""
    folder = tmp_path_factory.mktemp("sam3")
    tracker, _ = tiny_transformers.save("Sam3TrackerModel", folder)
    detector, _ = tiny_concepts.save(folder)  # replaces the settings of the processor
    settings = {
        "model_type": "sam3_video",
        "detector_config": detector.config.to_dict(),
        "tracker_config": tracker.config.to_dict()
        | {"model_type": "sam3_tracker_video", "image_size": 112},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    state = {f"detector_model.{name}": t for name, t in detector.state_dict().items()}
    for name, tensor in tracker.state_dict().items():
        if name.startswith("vision_encoder.backbone."):
            continue  # the two share it
        neck = name.replace("vision_encoder.neck.", "tracker_neck.")
        state[neck if neck != name else f"tracker_model.{name}"] = tensor
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    return folder


def test_one_folder_has_the_variant_and_the_detector(sam3: Path) -> None:
    recipe = resolve("sam3", sam3, "concepts", sets=SETS)
    assert recipe.sampler["model"] == str(sam3)
    assert recipe.sampler["concepts"] == ["a cat", "dog"]
    assert list(recipe.others) == ["sampler.model"]
    segments = segment(PHOTO, build(recipe))
    network = concepts.load(str(sam3))
    with torch.inference_mode():
        found = list(network.find(PHOTO, ["a cat", "dog"], 0.0, "cpu"))
    expected = {name: sorted(one.scores.tolist()) for name, one in found}
    for name, scores in expected.items():
        rows = [row for row, one in enumerate(segments.categories) if one == name]
        assert len(rows) == tiny_concepts.QUERIES
        assert sorted(segments.scores[rows].tolist()) == pytest.approx(scores, abs=1e-5)
    boxes = torch.cat([one.boxes for _, one in found])
    for record in segments.to_sa1b():
        assert (boxes - torch.tensor(record["prompt_box"])).abs().amax(1).min() < 1e-3


def test_the_folder_s_path_and_its_place_do_not_count(sam3: Path, tmp_path: Path) -> None:
    recipe = resolve("sam3", sam3, "concepts", sets=SETS)
    (tmp_path / "link").symlink_to(sam3)
    again = resolve("sam3", tmp_path / "link", "concepts", sets=SETS)
    assert again.digest == recipe.digest
    other = resolve("sam3", sam3, "concepts", sets=["sampler.concepts=dog", "sampler.conf=0"])
    assert other.digest != recipe.digest
    tokenizer = json.loads((sam3 / "tokenizer_config.json").read_text())
    before = (sam3 / "tokenizer_config.json").read_text()
    (sam3 / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"x": 1}))
    assert resolve("sam3", sam3, "concepts", sets=SETS).digest != recipe.digest
    (sam3 / "tokenizer_config.json").write_text(before)


@pytest.mark.parametrize("variant", ["ucm", "nano"])
def test_boxes_prompt_any_other_variant(sam3: Path, variant: str) -> None:
    pipeline = load(variant, "concepts", concepts=["a cat", "dog"], model=str(sam3), conf=0)
    segments = segment(PHOTO, pipeline)
    assert set(segments.categories) == {"a cat", "dog"}
    with torch.inference_mode():
        found = dict(concepts.load(str(sam3)).find(PHOTO, ["a cat", "dog"], 0.0, "cpu"))
    for record in segments.to_sa1b():
        boxes = found[record["category"]].boxes
        assert (boxes - torch.tensor(record["prompt_box"])).abs().amax(1).min() < 1e-3


def quiet_label(sam3: Path, photos: Path, out: Path, **more: Any) -> None:
    recipe = resolve("sam3", sam3, "concepts", sets=[*SETS, *more.pop("sets", [])])
    done = label(
        lambda: list_inputs([photos], out), out, recipe, preview=False,
        console=Console(file=StringIO()), **more,
    )  # fmt: skip
    assert done.exit_code == 0


@pytest.fixture(scope="module")
def labelled(sam3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("labelled")
    (home / "photos").mkdir()
    Image.fromarray(PHOTO).save(home / "photos/x.png")
    quiet_label(sam3, home / "photos", home / "labels", sets=["sampler.concepts=a chat, é"])
    return home / "labels"


@pytest.mark.parametrize("to", EXPORTERS.builtin)
def test_every_export_carries_the_names(labelled: Path, to: str, tmp_path: Path) -> None:
    expected = [row["category"] for row in Results(labelled).read("x.png").annotations]
    assert set(expected) == {"a chat", "é"}
    export(labelled, to, tmp_path / "out")
    all_names, names = class_readers.READERS[to](tmp_path / "out")
    assert all_names in (["a chat", "é"], None)
    if to in ("voc-png", "panoptic"):  # no overlaps: some masks are hidden
        assert set(names) <= set(expected)
        assert names
    else:
        assert names == expected


def test_labels_name_the_texts_and_replace_them(sam3: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "photos/x.png")
    out = tmp_path / "labels"
    quiet_label(sam3, tmp_path / "photos", out)
    results = Results(out)
    assert [(one.id, one.name) for one in results.categories] == [(1, "a cat"), (2, "dog")]
    names = [row["category"] for row in results.read("x.png").annotations]
    assert set(names) == {"a cat", "dog"}
    quiet_label(sam3, tmp_path / "photos", out)  # resumes
    quiet_label(sam3, tmp_path / "photos", out, sets=["sampler.concepts=dog"], overwrite=True)
    assert [(one.id, one.name) for one in Results(out).categories] == [(1, "dog")]


def test_classes_that_are_not_found_are_classes_too(sam3: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "photos/x.png")
    quiet_label(sam3, tmp_path / "photos", tmp_path / "out", sets=["sampler.conf=1"])
    results = Results(tmp_path / "out")
    assert [one.name for one in results.categories] == ["a cat", "dog"]
    assert results.read("x.png").annotations == []


def test_a_pair_names_what_the_first_one_found(sam3: Path) -> None:
    sets = ["sampler.first.concepts=dog", "sampler.first.conf=0", "sampler.then.points_per_side=2"]
    recipe = resolve("sam3", sam3, "concepts+grid", sets=[*sets, "nms.kind=none"],
                     flags={"pred_iou_thresh": 0, "stability_score_thresh": 0})  # fmt: skip
    assert recipe.sampler["first"]["model"] == str(sam3)
    recipe = recipe.model_copy(update={"sampler": recipe.sampler | {"largest": 0.0}})
    names = segment(PHOTO, build(recipe)).categories
    assert set(names) == {"dog", ""}


def test_crops_and_tiles_keep_the_names(sam3: Path) -> None:
    for group in ("crops.crop_n_layers=1", "tiles.tile_side=96"):
        sets = [*SETS, group, "tiles.tile_overlap=32"]
        segments = segment(PHOTO, build(resolve("sam3", sam3, "concepts", sets=sets)))
        assert set(segments.categories) == {"a cat", "dog"}


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    with pytest.raises(ConfigError, match=r'nothing to find is named: .*"person, car"'):
        load("ucm", "concepts")
    with pytest.raises(ConfigError, match="sampler concepts: concepts"):
        resolve("ucm", sampler="concepts", sets=["sampler.concepts=3"])
    with pytest.raises(ConfigError, match=r"model = hf:facebook/sam3: .*ORG/NAME@COMMIT"):
        resolve("ucm", sampler="concepts", sets=["sampler.model=hf:facebook/sam3"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"^https://huggingface\.co/facebook/sam3: "):
        load("ucm", "concepts", concepts="dog")
