"""Models of transformers by their own name: the same masks, and one line for what cannot be."""

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

from everything.config import Compute, Decoding
from everything.core.geometry import whole
from everything.core.prompts import Prompts
from everything.detectors.prompt_head import PromptHead
from everything.errors import ConfigError, WeightsError
from everything.pipeline.pipeline import segment
from everything.recipes import catalogue
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks import transformers_model
from tests.photos import photo
from tests.variants.tiny_transformers import KINDS, save

PHOTO = photo("chelsea", 160)
SHARED = ("Sam2Model", "EdgeTamModel", "Sam3TrackerModel")
SAMPLERS: dict[str, dict[str, object]] = {
    "grid": {"points_per_side": 2},
    "hierarchical": {"points_per_side": 4},
    "object-aware": {"conf": 0.0, "max_det": 5},
    "auto-ppn": {"conf": 0.0, "max_points": 4, "max_boxes": 3},
    "all-instance": {"conf": 0.0, "max_det": 5},
}
NO_FILTERS = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


@pytest.fixture(scope="module", params=KINDS)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Any, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *save(request.param, folder)


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    save("SamModel", folder)
    return folder


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def built(folder: Path, decoder: str = "shared-image") -> Any:
    return transformers_model.build(
        read_state(folder), str(folder), Compute(device="cpu"), Decoding(decoder=decoder)
    )


@pytest.mark.parametrize("decoder", ["shared-image", "plain"])
@pytest.mark.parametrize("multimask", [True, False])
def test_masks_are_those_of_the_model_with_its_own_processor(
    saved: tuple[str, Path, Any, Any], multimask: bool, decoder: str
) -> None:
    kind, folder, network, processor = saved
    model = built(folder, decoder)
    assert (model.decoder is not None) == (kind in SHARED and decoder != "plain")
    view = whole(PHOTO)
    frame, embedding = model.frame(view.size), model.encode(view)
    clicks = torch.tensor([[30.0, 20.0], [90.0, 60.0], [5.0, 99.0]])
    boxes = torch.tensor([[10.0, 10.0, 90.0, 80.0], [40.0, 30.0, 150.0, 100.0]])
    cases = [
        (Prompts.clicks(clicks), {"input_points": [[[xy] for xy in clicks.tolist()]]}),
        (Prompts.boxes(boxes), {"input_boxes": [boxes.tolist()]}),
    ]
    for prompts, asked in cases:
        given = processor(images=PHOTO, return_tensors="pt", **asked)
        sizes = [given.pop("original_sizes")]
        sizes += [given.pop("reshaped_input_sizes")] if "reshaped_input_sizes" in given else []
        theirs = network(**given, multimask_output=multimask)
        moved = Prompts(frame.to_canvas(prompts.points), prompts.labels)
        found = model.propose(embedding, moved, multimask)
        logits = found.draw(torch.arange(len(found.scores)))
        assert torch.allclose(found.scores, theirs.iou_scores.flatten(), rtol=0, atol=1e-4)
        assert torch.allclose(logits, theirs.pred_masks[0].flatten(0, 1), rtol=0, atol=1e-4)
        assert logits.std() > 1e-2
        full = processor.post_process_masks(theirs.pred_masks.clone(), *sizes, binarize=False)[0]
        assert torch.allclose(frame.to_view(logits), full.flatten(0, 1), rtol=0, atol=1e-3)


def test_prompts_of_several_kinds_are_answered_as_each_by_itself(
    saved: tuple[str, Path, Any, Any],
) -> None:
    model = built(saved[1], "plain")
    embedding = model.encode(whole(PHOTO))
    parts = [
        Prompts.clicks(torch.tensor([[30.0, 20.0]])),
        Prompts.boxes(torch.tensor([[5.0, 5.0, 40.0, 30.0]])),
        Prompts.clicks(torch.tensor([[12.0, 33.0]])),
    ]
    found = model.propose(embedding, Prompts.cat(parts), True)
    alone = [model.propose(embedding, part, True) for part in parts]
    assert torch.allclose(found.scores, torch.cat([one.scores for one in alone]), atol=1e-5)
    logits = torch.cat([one.draw(torch.arange(3)) for one in alone])
    assert torch.allclose(found.draw(torch.arange(9)), logits, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_on_it(
    saved: tuple[str, Path, Any, Any], name: str, tmp_path: Path
) -> None:
    settings = dict(SAMPLERS[name])
    if name == "auto-ppn":
        settings["head"] = str(tmp_path / "head.safetensors")
        save_file(PromptHead(32, 8).state_dict(), settings["head"])
    sets = [f"sampler.{key}={value}" for key, value in settings.items()]
    recipe = resolve(f"hf:{saved[1]}", None, name, None, sets, NO_FILTERS | {"crop_n_layers": 1})
    found = segment(PHOTO, build(recipe))
    assert len(found) > 0
    assert bool(found.scores.isfinite().all())


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (900, 1), (40, 52)])
def test_images_of_every_shape_are_encoded(sam_folder: Path, shape: tuple[int, int]) -> None:
    model = built(sam_folder)
    view = whole(np.full((*shape, 3), 200, np.uint8))
    pixels = model.pixels(view)
    assert pixels.shape == (1, 3, 64, 64)
    _, _, width, height = model.frame(view.size).content
    assert bool((pixels[0, :, :height, :width] != 0).all())
    assert bool((pixels[0, :, height:] == 0).all())
    assert bool((pixels[0, :, :, width:] == 0).all())


def test_a_folder_counts_by_its_content(sam_folder: Path, tmp_path: Path) -> None:
    recipe = resolve(f"hf:{sam_folder}")
    assert (recipe.variant, recipe.checkpoint) == ("hf", str(sam_folder))
    copy = shutil.copytree(sam_folder, tmp_path / "copy")
    assert resolve(f"hf:{copy}").digest == recipe.digest
    assert resolve("hf", copy).digest == recipe.digest
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**settings, "initializer_range": 0.03}))
    assert resolve(f"hf:{copy}").digest != recipe.digest
    moved = recipe.model_copy(update={"checkpoint": str(copy)})
    with pytest.raises(WeightsError, match="not the file that the job began with"):
        build(moved)


def test_thresholds_suit_the_scores(sam_folder: Path, tmp_path: Path) -> None:
    assert resolve(f"hf:{sam_folder}").filters.pred_iou_thresh == 0.88
    save("Sam2Model", tmp_path)
    assert resolve(f"hf:{tmp_path}").filters.pred_iou_thresh == 0.8


def test_shards_are_read_as_one(sam_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sam_folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({n: state[n] for n in part}, copy / f"model-{number}.safetensors")
    index = {n: f"model-{i % 2}.safetensors" for i, n in enumerate(names)}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (copy / "model.safetensors").unlink()
    found, whole_ = built(copy).network.state_dict(), built(sam_folder).network.state_dict()
    assert all(torch.equal(found[name], whole_[name]) for name in whole_)
    (copy / "model-1.safetensors").unlink()
    with pytest.raises(WeightsError, match="names files that are not beside it"):
        resolve(f"hf:{copy}")


def test_without_a_processor_the_defaults_are_used_and_said(
    sam_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(sam_folder, tmp_path / "copy")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (copy / name).unlink(missing_ok=True)
    view = whole(PHOTO)
    assert torch.equal(built(copy).pixels(view), built(sam_folder).pixels(view))
    assert "images are prepared with the defaults of SamImageProcessor" in caplog.text


def test_code_in_a_folder_is_not_run(sam_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sam_folder, tmp_path / "copy")
    settings = json.loads((copy / "config.json").read_text())
    settings["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    (copy / "config.json").write_text(json.dumps(settings))
    assert len(built(copy).network.state_dict()) > 100
    settings["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="not a model that transformers can build"):
        built(copy)
    assert not (tmp_path / "was_run").exists()


def test_folders_that_do_not_fit_are_refused(sam_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sam_folder, tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    state.pop("mask_decoder.iou_token.weight")
    with pytest.raises(WeightsError, match=r"1 tensors are missing .*\(mask_decoder\.iou_token"):
        transformers_model.build(state, str(copy))
    processor = json.loads((copy / "processor_config.json").read_text())
    processor["image_processor"]["size"] = {"longest_edge": 128}
    (copy / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(WeightsError, match="the model takes 64"):
        built(copy)
    (copy / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="model_type bert is not one for mask generation"):
        built(copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="only safetensors are read"):
        resolve(f"hf:{copy}")
    (copy / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        resolve(f"hf:{copy}")


def test_weights_that_are_not_used_are_counted(
    sam_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {**read_state(sam_folder), "extra.weight": torch.zeros(1)}
    transformers_model.build(state, str(sam_folder))
    assert "1 tensors are not used (extra.weight …)" in caplog.text


def test_fused_kernels_are_not_promised(sam_folder: Path) -> None:
    with pytest.raises(ConfigError, match="not for SamModel"):
        transformers_model.build(
            read_state(sam_folder), str(sam_folder), Compute(device="cpu", kernels="fused")
        )


def test_sam3_takes_the_layout_that_its_authors_publish(tmp_path: Path) -> None:
    """One folder for video, with the detector's encoder and the tracker's neck and decoder."""
    network, _ = save("Sam3TrackerModel", tmp_path)
    tracker = network.config.to_dict()
    vision = tracker["vision_config"]
    settings = {
        "model_type": "sam3_video",
        "detector_config": {"model_type": "sam3", "vision_config": vision},
        "tracker_config": tracker | {"model_type": "sam3_tracker_video", "image_size": 112},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    state = {_published(name): t for name, t in network.state_dict().items()}
    state |= {
        "detector_model.detr_decoder.x": torch.zeros(1),
        "tracker_model.no_object_pointer": torch.zeros(1, 32),
    }
    save_file({name: t.contiguous() for name, t in state.items()}, tmp_path / "model.safetensors")
    recipe = resolve("sam3", tmp_path, "grid", None, ["sampler.points_per_side=2"], NO_FILTERS)
    assert (recipe.variant, recipe.checkpoint) == ("sam3", str(tmp_path))
    pipeline = build(recipe)
    found = pipeline.model.network.state_dict()
    assert all(torch.equal(found[name], t) for name, t in network.state_dict().items())
    assert pipeline.model.decoder is not None
    assert len(segment(PHOTO, pipeline)) > 0


def _published(name: str) -> str:
    if name.startswith("vision_encoder.backbone."):
        return f"detector_model.{name}"
    if name.startswith("vision_encoder.neck."):
        return name.replace("vision_encoder.neck.", "tracker_neck.")
    return f"tracker_model.{name}"


def test_sam3_refuses_other_networks_and_says_how_to_get_its_weights(
    sam_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    with pytest.raises(WeightsError, match=r"model_type sam is not of this variant.*hf:/FOLDER"):
        build(resolve("sam3", sam_folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"^https://huggingface\.co/facebook/sam3: "):
        resolve("sam3")
    row = next(row for row in catalogue.variants() if row["name"] == "sam3")
    assert "licence is accepted at https://huggingface.co/facebook/sam3" in row["status"]
