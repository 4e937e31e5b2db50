"""Half a network in the checkpoint: the rest comes from another variant's file, or nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everything.errors import WeightsError
from everything.variants import VARIANTS, mobilesamv2, nanosam
from tests.variants.synthetic import SMALL, blueprint, checkpoint


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def mobilesam(hub: Path) -> dict[str, torch.Tensor]:
    state = {name: tensor + 1 for name, tensor in checkpoint(blueprint("mobilesam")).items()}
    torch.save(state, hub / VARIANTS["mobilesam"].weights.cached.name)
    return state


def test_mobilesamv2_takes_its_encoder_from_mobilesam(hub: Path) -> None:
    lent = mobilesam(hub)
    plan = blueprint("mobilesamv2", small=True)
    own = {n: t for n, t in checkpoint(plan).items() if not n.startswith("image_encoder.")}
    model = mobilesamv2.build(own, "v2.pt", encoder="mobilesam", **SMALL)
    state = model.network.state_dict()
    assert torch.equal(state["image_encoder.neck.0.weight"], lent["image_encoder.neck.0.weight"])
    assert torch.equal(state["mask_decoder.iou_token.weight"], own["MaskDecoder.iou_token.weight"])


def test_nanosam_takes_its_decoder_from_mobilesam(hub: Path) -> None:
    lent = mobilesam(hub)
    plan = blueprint("nanosam", small=True)
    decoder = ("prompt_encoder.", "mask_decoder.")
    own = {n: t for n, t in checkpoint(plan).items() if not n.startswith(decoder)}
    state = nanosam.build(own, "checkpoint.pth", **SMALL).network.state_dict()
    assert torch.equal(state["image_encoder.proj.2.bias"], own["proj.2.bias"])
    assert torch.equal(
        state["mask_decoder.iou_token.weight"], lent["mask_decoder.iou_token.weight"]
    )


@pytest.mark.usefixtures("hub")
def test_without_the_other_file_it_says_which_one_is_missing() -> None:
    with pytest.raises(WeightsError, match=r"mobile_sam\.pt: not there and HF_HUB_OFFLINE is set"):
        mobilesamv2.build({"MaskDecoder.x": torch.zeros(1)}, "v2.pt", encoder="mobilesam")
