"""A checkpoint that was given for another variant names its own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from everything import load
from everything.errors import WeightsError
from everything.variants.checkpoints.recognition import fitting_variants
from tests.variants.synthetic import blueprint
from tests.variants.tiny_transformers import save

BUNDLED = Path(str(files("everything.bundled") / "weights"))


def state_of(variant: str) -> dict[str, torch.Tensor]:
    shapes = blueprint(variant).shapes()
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("variant", "fitting"),
    [
        ("sam-vit-b", ["sam-vit-b"]),
        ("sam-hq-vit-b", ["sam-hq-vit-b"]),
        ("sam-hq-vit-tiny", ["sam-hq-vit-tiny"]),
        ("mobilesam", ["mobilesam", "tinysam"]),
        ("edgetam", ["edgetam"]),
        ("efficienttam-ti", ["efficienttam-ti", "efficienttam-ti-512"]),
        ("sam2.1-hiera-t", ["sam2-hiera-t", "sam2.1-hiera-t"]),
    ],
)
def test_names_and_shapes_tell_the_variant(variant: str, fitting: list[str]) -> None:
    assert fitting_variants(state_of(variant)) == fitting


def test_half_a_checkpoint_is_told_by_its_half() -> None:
    decoder = {n: t for n, t in state_of("mobilesamv2").items() if "Decoder" in n or "Promt" in n}
    assert {"mobilesamv2", "mobilesamv2-vit-h"} <= set(fitting_variants(decoder))


def test_what_is_left_over_fits_nothing() -> None:
    assert fitting_variants(state_of("sam-hq-vit-b") | {"extra": torch.empty(1)}) == []


def test_folders_are_told_by_their_settings(tmp_path: Path) -> None:
    for kind, name in (("Sam3TrackerModel", "sam3"), ("SamModel", f"hf:{tmp_path}")):
        save(kind, tmp_path)
        with pytest.raises(WeightsError, match=f"not weights of mobilesam .*: they fit {name}: gi"):
            load("mobilesam", checkpoint=tmp_path)


def test_a_file_is_told_where_a_folder_is_needed() -> None:
    error = (
        r"nano\.safetensors: not weights of sam3 \(a file, .*\): they fit nano: give it with --v"
    )
    with pytest.raises(WeightsError, match=error):
        load("sam3", checkpoint=BUNDLED / "nano.safetensors")


def test_the_error_names_it() -> None:
    error = r"nano\.safetensors: not weights of mobilesam \(.*\): they fit nano: give it with --v"
    with pytest.raises(WeightsError, match=error):
        load("mobilesam", checkpoint=BUNDLED / "nano.safetensors")
