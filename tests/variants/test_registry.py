"""Nothing of the survey is silently missing, and every record says what a user must know."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from everything.cli.main import app
from everything.errors import ConfigError
from everything.recipes import catalogue, resolve
from everything.variants import UNAVAILABLE, VARIANTS
from everything.variants.checkpoints.weights import PACKAGED

SURVEY = [
    "sam-vit-h",
    "sam-vit-l",
    "sam-vit-b",
    "samfast-h",
    "sam2-hiera-t",
    "sam2-hiera-s",
    "sam2-hiera-b+",
    "sam2-hiera-l",
    "sam2.1-hiera-t",
    "sam2.1-hiera-s",
    "sam2.1-hiera-b+",
    "sam2.1-hiera-l",
    "fastsam-s",
    "fastsam-x",
    "mobilesam",
    "mobilesamv2",
    "edgesam",
    "edgesam-3x",
    "efficientsam-ti",
    "efficientsam-s",
    "repvit-sam",
    "efficientvit-sam-l0",
    "efficientvit-sam-l1",
    "efficientvit-sam-l2",
    "efficientvit-sam-xl0",
    "efficientvit-sam-xl1",
    "slimsam-50",
    "slimsam-77",
    "tinysam",
    "q-tinysam",
    "nanosam",
    "lite-sam",
    "rwkv-sam",
    "sam-lightening",
    "ptq4sam",
    "esam",
    "squeezesam",
    "rap-sam",
    "fastsam3d",
]


def test_every_system_of_the_survey_is_listed() -> None:
    rows = {row["name"]: row for row in catalogue.variants()}
    assert set(SURVEY) <= rows.keys()
    assert not VARIANTS.keys() & UNAVAILABLE.keys()
    assert all(row["status"] and row["summary"] and row["licence"] for row in rows.values())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_record_can_be_used(name: str) -> None:
    record = VARIANTS[name]
    assert callable(record.network_module().build)
    weights = record.weights
    assert weights.source.startswith(("https://", "package:"))
    assert len(weights.sha256) in (0, 64)
    assert weights.source.startswith(PACKAGED) or weights.cached.suffix in (
        ".pt",
        ".pth",
        ".safetensors",
    )


def test_no_two_files_share_a_place_in_the_cache() -> None:
    places: dict[str, str] = {}
    fetched = (r.weights for r in VARIANTS.values() if not r.weights.source.startswith(PACKAGED))
    for weights in fetched:
        assert places.setdefault(weights.cached.name, weights.source) == weights.source


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_asking_for_what_is_not_available_says_why(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^variant '{name}' is no model: "):
        resolve.resolve(name)


def test_the_command_lists_all_of_them() -> None:
    table = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["variants"])
    assert table.exit_code == 0
    listed = CliRunner().invoke(app, ["variants", "--json"])
    names = [row["name"] for row in json.loads(listed.stdout)]
    assert names == [*VARIANTS, "sam3", "hf:ORG/NAME", *UNAVAILABLE]
    assert all(name in table.stdout for name in names)


def test_the_list_shows_the_thresholds_that_are_documented() -> None:
    rows = {row["name"]: row for row in catalogue.variants()}
    text = Path("docs/variants.md").read_text().split("## Thresholds")[1].split("\n## ")[0]
    documented = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            for pattern in re.findall("`([^`]+)`", cells[0]):
                named = fnmatch.filter(VARIANTS, pattern)
                assert named, pattern
                documented |= {name: (float(cells[1]), float(cells[2])) for name in named}
    assert documented == {
        name: (rows[name]["pred_iou_thresh"], rows[name]["stability_score_thresh"])
        for name in VARIANTS
    }
    table = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["variants"]).stdout
    assert re.search(r"sam2-hiera-l .*IoU > 0\.8, stability >= 0\.95", table)
