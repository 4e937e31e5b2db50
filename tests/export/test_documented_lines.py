"""The lines of docs/export.md that open the labels in other tools, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import pytest
from pycocotools import mask as coco

from everything.export.run import export
from everything.io.results.reader import Results
from tests.export.handed import write_handed, written_masks

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Open the labels in …")[1].split("\n## ")[0]
LINES = dict(re.findall(r"^```python\n# (\w+)[^\n]*\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE))
FOLDERS = {"coco": "coco", "dataset": "datasets", "voc": "voc-png", "cvat": "cvat"}
DATUMARO = os.environ.get("DATUMARO_PYTHON")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    labels = write_handed(folder)
    for name, to in FOLDERS.items():
        export(labels.root, to, folder / name, photos="copy")
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.chdir(home)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return Results(home / "labels")


def after(tool: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(LINES[tool], found)
    return found


def test_every_tool_has_its_lines() -> None:
    tools = {"pycocotools", "supervision", "datasets", "ultralytics", "FiftyOne", "datumaro"}
    assert set(LINES) == tools
    for code in LINES.values():
        compile(code, "docs/export.md", "exec")


def test_pycocotools(here: Results) -> None:
    expected = written_masks(here, "a/four.jpg")
    found = after("pycocotools")["masks"]
    assert [mask.tolist() for mask in found] == expected.astype(int).tolist()


def test_supervision(here: Results) -> None:
    found = after("supervision")
    assert found["image"].shape[:2] == found["detections"].mask.shape[1:]
    assert len(found["data"]) == len(here.files)


def test_datasets(here: Results) -> None:
    found = after("datasets")
    masks = [coco.decode(one["segmentation"]) for one in found["objects"]]
    assert (masks == written_masks(here, "a/four.jpg")).all()
    assert found["image"].size == masks[0].shape[::-1]


@pytest.mark.skipif(not DATUMARO, reason="DATUMARO_PYTHON is not set")
def test_datumaro(here: Results, home: Path) -> None:
    # To datumaro, photos of one stem are one item: COCO's and CVAT's exports have two of those.
    code = LINES["datumaro"] + "print(len(list(data)), len(masks))"
    done = subprocess.run(
        [str(DATUMARO), "-W", "ignore", "-c", code],
        cwd=home, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    images, masks = map(int, done.stdout.split()[-2:])
    assert (images, masks > 0) == (len(here.files), True)


@pytest.mark.parametrize("package", ["pycocotools", "supervision", "datasets", "ultralytics"])
def test_versions_are_not_newer_than_what_is_installed(package: str) -> None:
    stated = re.search(rf"{package}`? (\d+(?:\.\d+)+) \|", SECTION)
    assert stated is not None
    numbers = [tuple(map(int, text.split(".")[:2])) for text in (stated[1], version(package))]
    assert numbers[0] <= numbers[1]
