"""Half a network in the checkpoint: the rest comes from another variant's file, or nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everything.errors import WeightsError
from everything.recipes.resolve import resolve
from everything.variants import VARIANTS
from everything.variants.checkpoints.shared_weights import completed
from everything.variants.checkpoints.weights import sha256
from everything.variants.networks import mobilesamv2, nanosam
from tests.variants.synthetic import SMALL, blueprint, checkpoint


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def mobilesam(hub: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A checkpoint in the cache, taken for the official one."""
    monkeypatch.setattr("everything.variants.checkpoints.weights.check", lambda *_: None)
    state = {name: tensor + 1 for name, tensor in checkpoint(blueprint("mobilesam")).items()}
    torch.save(state, hub / VARIANTS["mobilesam"].weights.cached.name)
    return state


def test_mobilesamv2_takes_its_encoder_from_mobilesam(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = mobilesam(hub, monkeypatch)
    plan = blueprint("mobilesamv2", small=True)
    own = {n: t for n, t in checkpoint(plan).items() if not n.startswith("image_encoder.")}
    whole = completed(own, VARIANTS["mobilesamv2"])
    model = mobilesamv2.build(whole, "v2.pt", encoder="mobilesam", **SMALL)
    state = model.network.state_dict()
    assert torch.equal(state["image_encoder.neck.0.weight"], lent["image_encoder.neck.0.weight"])
    assert torch.equal(state["mask_decoder.iou_token.weight"], own["MaskDecoder.iou_token.weight"])


def test_nanosam_takes_its_decoder_from_mobilesam(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = mobilesam(hub, monkeypatch)
    plan = blueprint("nanosam", small=True)
    decoder = ("prompt_encoder.", "mask_decoder.")
    own = {n: t for n, t in checkpoint(plan).items() if not n.startswith(decoder)}
    whole = completed(own, VARIANTS["nanosam"])
    state = nanosam.build(whole, "checkpoint.pth", **SMALL).network.state_dict()
    assert torch.equal(state["image_encoder.proj.2.bias"], own["proj.2.bias"])
    assert torch.equal(
        state["mask_decoder.iou_token.weight"], lent["mask_decoder.iou_token.weight"]
    )


@pytest.mark.usefixtures("hub")
def test_a_whole_checkpoint_borrows_nothing() -> None:
    whole = {"image_encoder.x": torch.zeros(1), "MaskDecoder.x": torch.zeros(1)}
    assert completed(whole, VARIANTS["mobilesamv2"]) is whole
    assert completed({"x": torch.zeros(1)}, VARIANTS["sam-vit-b"]).keys() == {"x"}


@pytest.mark.usefixtures("hub")
def test_without_the_other_file_it_says_which_one_is_missing() -> None:
    half = {"MaskDecoder.x": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"mobile_sam\.pt: not found, and HF_HUB_OFFLINE is set"):
        completed(half, VARIANTS["mobilesamv2"])


def test_the_recipe_covers_the_file_that_was_borrowed_from(hub: Path, tmp_path: Path) -> None:
    half, lender = tmp_path / "half.pt", hub / VARIANTS["efficientvit-sam-l2"].weights.cached.name
    torch.save({"MaskDecoder.x": torch.zeros(1)}, half)
    digests = set()
    for seed in range(2):
        torch.save({"image_encoder.x": torch.full((1,), seed)}, lender)
        recipe = resolve("mobilesamv2-efficientvit-l2", half)
        assert recipe.others == {"efficientvit-sam-l2": sha256(lender)}
        digests.add(recipe.digest)
    assert len(digests) == 2
    # Of a published SHA-256 the file need not be there: it is checked when it is read.
    lent = VARIANTS["mobilesam"].weights.sha256
    assert resolve("mobilesamv2", half).others == {"mobilesam": lent}
    torch.save({"MaskDecoder.x": torch.zeros(1), "image_encoder.x": torch.zeros(1)}, half)
    assert resolve("mobilesamv2", half).others == {}


def test_the_recipe_covers_a_samplers_own_network(tmp_path: Path) -> None:
    head, digests = tmp_path / "head.safetensors", set()
    for content in (b"one", b"other"):
        head.write_bytes(content)
        recipe = resolve("ucm", sampler="auto-ppn", sets=[f"sampler.head={head}"])
        assert recipe.others == {"sampler.head": sha256(head)}
        digests.add(recipe.digest)
    assert len(digests) == 2
    pair = resolve("ucm", sampler="auto-ppn+grid", sets=[f"sampler.first.head={head}"])
    assert pair.others == {"sampler.first.head": sha256(head)}
