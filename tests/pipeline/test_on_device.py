"""What runs on a GPU, on a pretended one: the right device everywhere, the processor's masks, and
only as many waits as are known (docs/fast-decoder.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from everything.config import Compute, Decoding
from everything.core.geometry import padded_frame, stretched_frame, whole
from everything.core.prompts import Prompts
from everything.masks.segments import Segments
from everything.pipeline.device_masks import Place
from everything.pipeline.mask_stats import measure
from everything.pipeline.pipeline import Pipeline, segment
from everything.recipes.build import load
from tests.photos import photo
from tests.pretended import GPU, Gpu, OnGpu, switched_on
from tests.variants.test_contract import build

# One of each module's; slimsam, mobilesamv2 and tinysam have the code of others.
FAMILIES = (
    "nano",
    "sam-vit-b",
    "sam2-hiera-t",
    "mobilesam",
    "edgesam",
    "nanosam",
    "lite-sam",
    "mobilesamv2-efficientvit-l2",
    "efficientsam-ti",
    "sam-hq-vit-b",
    "edgetam",
    "efficienttam-ti",
)
PHOTO = photo("chelsea", 160)
VIEW = whole(PHOTO)
PLAIN = Decoding(decoder="plain")
CLICKS = Prompts.clicks(torch.tensor([[30.0, 20.0], [90.0, 60.0], [5.0, 99.0]]))
BOXES = Prompts.boxes(torch.tensor([[10.0, 10.0, 90.0, 80.0], [0.0, 0.0, 160.0, 106.0]]))
MIXED = Prompts(torch.cat([BOXES.points, CLICKS.points[:2]], 1), torch.tensor([[2, 3, 0]] * 2))
ROWS = torch.tensor([4, 0, 1, 4])
# Launches of an image after its encoder, where all prompts and masks fit one lot.
BY_TORCH, FUSED = 467, 295


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with switched_on() as mode:
        yield mode


def test_the_pretended_gpu_notices(gpu: Gpu):
    there, here = torch.arange(3, device=GPU), torch.arange(3)
    assert isinstance(there, OnGpu)
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError, match=r"\.numpy\(\) is not supported"):
        there.numpy()
    with pytest.raises(RuntimeError, match="indices should be"):
        here[there]
    cases = {
        "item": lambda: bool((there == 1).any()),
        "boolean index": lambda: there[there > 0],
        "nonzero": lambda: there.nonzero(),
        "unique": lambda: torch.unique(there),
        "copy to host": there.tolist,
        "copy to GPU": lambda: there.new_tensor([4]),
    }
    for inference in (False, True):
        for why, case in cases.items():
            with gpu.counting() as waits, torch.inference_mode(inference):
                case()
            assert waits == {why: 1}, why
    with gpu.counting() as waits:
        assert ((there + here.to(GPU, non_blocking=True)) * 2).sum().device == GPU
        assert there[here] is not None
    assert waits == {"copy to GPU": 1}


def answers(model: Any, prompts: Prompts, several: bool) -> tuple[Any, torch.Tensor]:
    """The drafts and some of their masks."""
    frame = model.frame(VIEW.size)
    on_canvas = Prompts(frame.to_canvas(prompts.points), prompts.labels)
    candidates = model.propose(model.encode(VIEW), on_canvas, several)
    return candidates, candidates.draw(ROWS % len(candidates.scores))


def questions(name: str) -> list[tuple[Prompts, bool]]:
    asked = [(CLICKS, True), (BOXES, False)]
    return asked if name == "efficientsam-ti" else [*asked, (MIXED, True)]


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_every_family_answers_as_on_a_processor(name: str):
    model = build(name, compute=Compute(device="cpu", precision="fp32", kernels="torch"))
    expected = [answers(model, *question) for question in questions(name)]
    with switched_on() as gpu:
        # Triton's interpreter would take minutes: tests/decoding/test_triton.py has its kernels.
        model = build(name, compute=Compute(device="cuda:0", precision="fp32", kernels="torch"))
        for question, (candidates, logits) in zip(questions(name), expected, strict=True):
            with gpu.counting() as waits:
                found, drawn = answers(model, *question)
            # The scores; edgesam's are of the masks, by which SAM 2's single answers are chosen.
            by_looks = name in ("sam2-hiera-t", "edgetam", "efficienttam-ti") and not question[1]
            assert waits == {"copy to host": 1 + (name == "edgesam") + by_looks}
            assert isinstance(drawn, OnGpu)
            near = {"rtol": 1e-4, "atol": 2e-4 * float(logits.abs().max())}
            torch.testing.assert_close(drawn.cpu(), logits, **near)
            torch.testing.assert_close(found.scores, candidates.scores, rtol=1e-3, atol=1e-4)
            for column in ("prompt", "level", "identity"):
                assert torch.equal(getattr(found, column), getattr(candidates, column))


@pytest.mark.parametrize("name", ["sam-vit-b", "sam2-hiera-t"])
@torch.inference_mode()
def test_the_plain_decoder_does_it_too(name: str):
    model = build(name, decoding=PLAIN)
    _, expected = answers(model, CLICKS, True)
    with switched_on() as gpu:
        model = build(name, compute=Compute(device="cuda:0"), decoding=PLAIN)
        with gpu.counting() as waits:
            _, drawn = answers(model, CLICKS, True)
        assert waits["copy to host"] == 1
        assert not waits["item"] + waits["boolean index"] + waits["nonzero"]
        near = {"rtol": 1e-4, "atol": 2e-4 * float(expected.abs().max())}
        torch.testing.assert_close(drawn.cpu(), expected, **near)


@pytest.mark.parametrize(
    ("name", "precision"),
    # Processors take half a minute for convolutions in float16.
    [
        *((name, "bf16") for name in FAMILIES),
        ("nano", "fp16"),
        ("sam-vit-b", "fp16"),
    ],
)
@torch.inference_mode()
def test_a_lower_precision_ends_at_the_encoder(name: str, precision: str):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with switched_on() as gpu:
        model = build(name, compute=Compute(device="cuda:0", precision=precision, kernels="torch"))
        with gpu.counting() as waits:
            embedding = model.encode(VIEW)
        assert not waits
        assert dtype in gpu.dtypes
        assert model.features(embedding).dtype == torch.float32
        gpu.dtypes.clear()
        points = Prompts(model.frame(VIEW.size).to_canvas(CLICKS.points), CLICKS.labels)
        candidates = model.propose(embedding, points, True)
        drawn = candidates.draw(ROWS % len(candidates.scores))
        assert drawn.dtype == torch.float32
        assert drawn.cpu().isfinite().all()
        assert dtype not in gpu.dtypes


def pipeline(**settings: Any) -> Pipeline:
    sampler = settings.pop("sampler", "grid-16")
    loose = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.5, "kernels": "torch"}
    return load("nano", sampler, **(loose | settings))


def assert_same(found: Segments, expected: Segments) -> None:
    """The same but for single pixels that lie on the cut."""
    assert len(found) == len(expected) > 0
    differ = found.masks ^ expected.masks
    assert differ.sum() <= 2e-4 * expected.masks.sum()
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.stability, expected.stability, rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", ["box", "mask", "containment"])
def test_an_image_and_its_waits(gpu: Gpu, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("everything.pipeline.nms.MANY", 5)
    settings = {"points_per_side": 5, "kind": kind, "box_nms_thresh": 0.5}
    expected = segment(PHOTO, pipeline(device="cpu", **settings))
    there = pipeline(device="cuda:0", **settings)
    with gpu.counting() as waits:
        found = segment(PHOTO, there)
    assert_same(found, expected)
    # The scores, the measures, NMS (its result's size, and the result) and the run edges.
    assert waits == {"copy to host": 4} | ({"nms": 1} if kind == "box" else {})


@pytest.mark.parametrize(("kernels", "sides"), [("torch", (2, 5)), ("fused", (2,))])
def test_launches_do_not_depend_on_the_number_of_prompts(
    gpu: Gpu, kernels: str, sides: tuple[int, ...]
):
    # Before: 730 for each 64 prompts, and 35 for each 96 masks.
    small, found = np.ascontiguousarray(photo("chelsea", 64)[:4]), []  # of 32 image tokens
    for points_per_side in sides:
        loose = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "kernels": kernels}
        there = pipeline(device="cuda:0", points_per_side=points_per_side, **loose)
        gpu.launches.clear()
        with gpu.counting() as waits:
            assert len(segment(small, there)) > 0
        assert waits == {"copy to host": 4}
        found.append(gpu.launches.total())
        gpu.launches.clear()
        with torch.inference_mode():
            there.model.encode(whole(small))
        found[-1] -= gpu.launches.total()
    assert set(found) == {{"torch": BY_TORCH, "fused": FUSED}[kernels]}


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "hierarchical", "points_per_side": 8, "high_score_thresh": 0.5},
        {"sampler": "auto-ppn", "conf": 0.02, "max_points": 9, "max_boxes": 5},
        {"sampler": "object-aware", "max_det": 9},
        {"points_per_side": 3, "crop_n_layers": 1, "min_mask_region_area": 20},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_samplers_and_crops(gpu: Gpu, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    # The detector's network: autocast does not round the same operations on all devices.
    monkeypatch.setattr("everything.bundled.ucm.fast_bfloat16", lambda device: False)
    expected = segment(PHOTO, pipeline(device="cpu", **settings))
    assert_same(segment(PHOTO, pipeline(device="cuda:0", **settings)), expected)


@pytest.mark.parametrize("variant", ["ucm", "ucm-lite0"])
@pytest.mark.parametrize(
    "sampler", ["grid-16", "hierarchical", "object-aware", "auto-ppn", "all-instance"]
)
def test_regions_have_their_network_there(gpu: Gpu, variant: str, sampler: str):
    settings = {"precision": "fp32", "pred_iou_thresh": 0.1}
    expected = segment(PHOTO, load(variant, sampler, device="cpu", **settings))
    there = load(variant, sampler, device="cuda:0", **settings)
    gpu.launches.clear()
    with gpu.counting() as waits:
        found = segment(PHOTO, there)
    # The boundary map; the two maps of auto-ppn's head, which is moved there for its first image.
    if sampler == "auto-ppn":
        assert waits.pop("copy to host") == 3
        assert set(waits) <= {"copy to GPU"}
    else:
        assert waits == {"copy to host": 1}
    assert gpu.launches["aten.convolution"] > 20
    assert_same(found, expected)


@pytest.mark.parametrize(("precision", "reduced"), [("auto", True), ("fp32", False)])
@torch.inference_mode()
def test_a_boundary_network_computes_in_bfloat16_there(gpu: Gpu, precision: str, reduced: bool):
    model = load("ucm-lite0", device="cuda:0", precision=precision).model
    gpu.dtypes.clear()
    features = model.features(model.encode(VIEW))
    assert isinstance(features, OnGpu)
    assert features.dtype == torch.float32
    assert (torch.bfloat16 in gpu.dtypes) == reduced


@pytest.mark.parametrize("sampler", ["object-aware", "all-instance"])
def test_the_bundled_detector_is_where_its_variant_is(
    gpu: Gpu, sampler: str, monkeypatch: pytest.MonkeyPatch
):
    # Autocast does not round the same operations on all devices.
    monkeypatch.setattr("everything.bundled.ucm.fast_bfloat16", lambda device: False)
    settings = {"sampler": sampler, "max_det": 9}
    expected = segment(PHOTO, pipeline(device="cpu", **settings))
    there = pipeline(device="cuda:0", **settings)
    with torch.inference_mode():
        there.model.encode(VIEW)
    encoding = gpu.launches["aten.convolution"]
    gpu.launches.clear()
    found = segment(PHOTO, there)
    # all-instance does not need nano's encoder.
    own = gpu.launches["aten.convolution"] - (encoding if sampler == "object-aware" else 0)
    assert own > 20
    assert_same(found, expected)


def test_memory_that_runs_out_makes_batches_smaller(
    gpu: Gpu, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("everything.pipeline.gpu_decoding.PROMPTS", 64)
    there = pipeline(device="cuda:0", points_per_side=8, device_memory=0.25)
    expected = segment(PHOTO, pipeline(device="cuda:0", points_per_side=8))
    gpu.memory = 1_800_000  # an encoder's largest map, 48 prompts' weights, 9 prompts' features
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(gpu.memory + 1, device=GPU)
    found = segment(PHOTO, there)
    # While prompts were scored, masks drawn and measured, and compared by NMS.
    said = {record.message.split(" at a time")[0].split(" ", 4)[-1] for record in caplog.records}
    assert said == {
        "prompts are scored",
        "prompts' masks are drawn",
        "masks are drawn",
        "bytes of masks are compared",
    }
    assert gpu.refused > 2
    assert_same(found, expected)
    refused = gpu.refused
    assert_same(segment(PHOTO, there), expected)
    assert gpu.refused == refused + 1  # what the decoder may be given is known by now


@pytest.mark.parametrize("kind", ["padded", "stretched", "bicubic"])
@pytest.mark.parametrize(("origin", "threshold"), [((0, 0), 0.0), ((3, 5), 0.0), ((0, 0), -0.3)])
def test_masks_measured_there_are_those_of_whole_masks_here(
    gpu: Gpu, kind: str, origin: tuple[int, int], threshold: float
):
    size = (40, 61)
    frames = {
        "padded": padded_frame(size, 64),
        "stretched": stretched_frame(size, 64),
        "bicubic": stretched_frame(size, 64, "bicubic"),
    }
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(8, 16, 16, generator=generator)
    logits[3], logits[5] = -9.0, 9.0  # empty, and full: its columns run into each other
    place = Place(origin, (size[0] + origin[1], size[1] + origin[0] + 2))
    expected = measure(logits, frames[kind], 0.7, "exact", place, threshold=threshold)
    there = logits.to(GPU, non_blocking=True)
    with gpu.counting() as waits:
        found = measure(there, frames[kind], 0.7, "torch", place, 3 * 8 * 64 * 64, threshold)
    assert waits == {"copy to host": 1}
    for name in ("stability", "areas", "boxes"):
        here, there = getattr(expected, name), getattr(found, name)
        assert torch.equal(here.nan_to_num(7), there.nan_to_num(7))
        assert here.dtype == there.dtype
    rows = [7, 3, 0, 5, 1]
    with gpu.counting() as waits:
        assert list(found.codes(rows)) == expected.codes(rows)
    assert waits["copy to host"] == 2  # of two lots
    assert list(found.codes([])) == []
    assert np.all(found.areas.numpy()[[3, 5]] == [0, size[0] * size[1]])
