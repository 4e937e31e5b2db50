"""SAM 3's answers to texts: those of transformers with its own processor, and their names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from everything.config import Filters
from everything.core import rle
from everything.core.geometry import whole
from everything.detectors import concepts
from everything.errors import ConfigError, WeightsError
from everything.pipeline import filtering
from tests.detectors.tiny_concepts import KINDS, QUERIES, save
from tests.photos import photo

PHOTO = photo("chelsea", 160)
TEXTS = ["cat", "a red car"]


@pytest.fixture(scope="module", params=KINDS)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, *save(folder, request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam3")
    save(folder)
    return folder


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def found(folder: Path, texts: list[str] = TEXTS, conf: float = 0.0) -> list[Any]:
    return list(concepts.load(str(folder)).find(PHOTO, texts, conf, "cpu"))


def test_instances_are_those_of_transformers(saved: tuple[Path, Any, Any]) -> None:
    folder, network, processor = saved
    none = Filters(pred_iou_thresh=0, stability_score_thresh=0)
    view = whole(PHOTO)
    middles = []
    for text, ours in found(folder):
        given = processor(images=PHOTO, text=text, return_tensors="pt")
        sizes = given.pop("original_sizes").tolist()
        output = network(**given)
        scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
        middles.append(float(scores.median()))
        for threshold in (0.0, middles[-1]):
            (theirs,) = processor.post_process_instance_segmentation(
                output, threshold=threshold, target_sizes=sizes
            )
            rows = (ours.scores > threshold).nonzero().flatten()
            assert 0 < len(rows) == len(theirs["scores"])
            assert torch.allclose(ours.scores[rows], theirs["scores"], rtol=0, atol=1e-6)
            limit = torch.tensor([view.size[1], view.size[0]] * 2)
            boxes = theirs["boxes"].clamp(min=0).minimum(limit)
            assert torch.allclose(ours.boxes[rows], boxes, rtol=0, atol=1e-3)
        kept = filtering.accept(ours.decoded(slice(0, QUERIES)), view, none).segments
        (theirs,) = processor.post_process_instance_segmentation(
            output, threshold=0.0, target_sizes=sizes
        )
        expected = theirs["masks"].bool().numpy()
        assert 0.05 < expected.mean() < 0.95
        assert (rle.decode(kept.rles, view.size) != expected).mean() < 1e-6
    assert abs(middles[0] - middles[1]) > 1e-4  # the text matters


def test_scores_must_exceed_the_threshold(folder: Path) -> None:
    ((_, every),) = found(folder, ["cat"])
    middle = float(every.scores.median())
    ((_, some),) = found(folder, ["cat"], middle)
    assert len(every) == QUERIES
    assert some.scores.tolist() == every.scores[every.scores > middle].tolist()
    assert [len(ours) for _, ours in found(folder, TEXTS, 1.0)] == [0, 0]


def test_the_published_folder_is_of_the_video_model(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "video")
    detector = json.loads((copy / "config.json").read_text())
    settings = {"model_type": "sam3_video", "detector_config": detector}
    (copy / "config.json").write_text(json.dumps(settings))
    state = {f"detector_model.{n}": t for n, t in load_file(copy / "model.safetensors").items()}
    state["tracker_model.no_object_pointer"] = torch.zeros(1, 32)
    state["tracker_neck.fpn_layers.0.proj1.bias"] = torch.zeros(32)
    save_file(state, copy / "model.safetensors")
    one, other = (concepts.load(str(each)).network for each in (folder, copy))
    state = other.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in one.state_dict().items())
    for (_, one), (_, other) in zip(found(folder), found(copy), strict=True):
        assert torch.allclose(one.scores, other.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (200, 1)])
def test_images_of_every_shape(folder: Path, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 90, np.uint8)
    ((_, ours),) = concepts.load(str(folder)).find(pixels, ["cat"], 0.0, "cpu")
    assert ours.decoded(slice(0, 3)).logits.shape == (3, *shape)


def test_what_cannot_be_used_is_one_line(folder: Path, tmp_path: Path) -> None:
    network = concepts.load(str(folder))
    with pytest.raises(ConfigError, match=r"'abc .*' has 38 tokens, the model takes 32: use fewer"):
        network.tokens("abc " * 12)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json: copy the tokenizer's files"):
        concepts.load(str(copy))
    (copy / "config.json").write_text(json.dumps({"model_type": "sam2"}))
    with pytest.raises(WeightsError, match="model_type sam2 does not answer texts: give one of s"):
        concepts.load(str(copy))
    with pytest.raises(WeightsError, match=r"nowhere/config\.json: cannot be read"):
        concepts.load("nowhere")


def test_weights_must_be_complete(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    del state["text_projection.weight"]
    save_file(state, copy / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensors are missing .*\(text_projection\.weight"):
        concepts.load(str(copy))


def test_names_of_the_hub_need_a_commit() -> None:
    assert concepts.checked_model(concepts.OFFICIAL) == concepts.OFFICIAL
    assert concepts.checked_model("hf:/models/sam3") == "/models/sam3"
    assert concepts.checked_model("models/sam3") == "models/sam3"
    for name in ("hf:facebook/sam3", "hf:facebook/sam3@main"):
        with pytest.raises(ValueError, match="write hf:ORG/NAME@COMMIT"):
            concepts.checked_model(name)
