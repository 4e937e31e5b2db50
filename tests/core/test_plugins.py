"""Packages that add samplers and variants by entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from everything.core.plugins import Registry
from everything.errors import ConfigError
from everything.samplers import SAMPLERS
from everything.variants import VARIANTS
from tests.fakes import save_photo

ROOT = Path(__file__).parent.parent.parent
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny-plugin"
version = "1"
[tool.setuptools]
py-modules = ["tiny_plugin"]
[project.entry-points."everything.samplers"]
centre = "tiny_plugin:CENTRE"
grid-16 = "tiny_plugin:CENTRE"
gone = "tiny_plugin_gone:RECORD"
number = "tiny_plugin:NUMBER"
[project.entry-points."everything.variants"]
nano-again = "tiny_plugin:NANO"
"""
MODULE = '''
"""A click in the middle, and nano under another name."""
from dataclasses import replace
import torch
from everything.config import Settings
from everything.core.prompts import Prompts
from everything.samplers import SamplerRecord
from everything.variants.records.bundled import BUNDLED

class Centre(Settings):
    def __call__(self, scene):
        height, width = scene.view.size
        clicks = Prompts.clicks(torch.tensor([[width / 2, height / 2]]))
        yield from scene.decode(clicks, multimask_output=True)

CENTRE = SamplerRecord("tiny_plugin:Centre", "a click in the middle", "nobody")
NANO = replace(BUNDLED["nano"], summary="nano again", module="tiny_plugin")
NUMBER = 7

def build(state, path, *arguments, **options):
    from everything.variants.networks import nano
    return nano.build(state, path, *arguments, **options)
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "tiny_plugin.py").write_text(MODULE)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--quiet", "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def everything(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(installed), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "everything", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_a_plugin_is_listed_and_labels(installed: Path, tmp_path: Path) -> None:
    listed = everything(installed, "samplers", "--json")
    assert listed.returncode == 0, listed.stderr
    names = [row["name"] for row in json.loads(listed.stdout)]
    assert names == [*SAMPLERS, "centre"]
    # Every problem is one line with the distribution's name.
    problems = [line for line in listed.stderr.splitlines() if "tiny-plugin" in line]
    assert len(problems) == 3
    for text in ("the built-in grid-16 is used", "cannot be imported (No module", "of type int"):
        assert sum(text in line for line in problems) == 1
    rows = {
        row["name"]: row for row in json.loads(everything(installed, "variants", "--json").stdout)
    }
    assert rows["nano-again"]["summary"] == "nano again"
    save_photo(tmp_path / "photos" / "one.jpg")
    out = tmp_path / "labels"
    done = everything(
        installed, "label", str(tmp_path / "photos"), "--out", str(out), "--no-preview",
        "--variant", "nano-again", "--sampler", "centre", "--pred-iou-thresh", "0.01",
        "--stability-score-thresh", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = (out / "annotations").rglob("*.json")
    clicks = [a["point_coords"] for a in json.loads(file.read_text())["annotations"]]
    assert clicks
    assert all(click == [[32.0, 24.0]] for click in clicks)


@pytest.mark.parametrize("name", ["gone", "number"])
def test_a_broken_plugin_that_is_asked_for_is_an_error(
    installed: Path, tmp_path: Path, name: str
) -> None:
    save_photo(tmp_path / "photos" / "one.jpg")
    out = str(tmp_path / "labels")
    done = everything(installed, "label", str(tmp_path / "photos"), "--out", out, "--sampler", name)
    assert done.returncode != 0
    assert f"tiny-plugin: entry point {name} of everything.samplers" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_two_packages_declare(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text("[some.group]\nsame = json:dumps\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry({"own": "mine"}, "some.group", str)
    assert "same" in registry
    assert list(registry) == ["own"]
    with pytest.raises(ConfigError, match=r"'same' is declared by several packages \(one, two\)"):
        registry["same"]
    with pytest.raises(KeyError):
        registry["other"]


def test_nothing_is_read_before_a_name_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "everything.core.plugins.entry_points", lambda group: read.append(group) or ()
    )
    registry = Registry({"own": "mine"}, "some.group", str)
    assert read == []
    assert registry["own"] == "mine"
    assert registry["own"] == "mine"
    assert read == ["some.group"]
    assert len(SAMPLERS) > 7
    assert "nano" in VARIANTS
