"""A package that adds an export format by an entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.handed import write_handed

ROOT = Path(__file__).parent.parent.parent
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny-exporter"
version = "1"
[tool.setuptools]
py-modules = ["tiny_exporter"]
[project.entry-points."everything.exporters"]
areas = "tiny_exporter:AREAS"
number = "tiny_exporter:NUMBER"
"""
MODULE = '''
"""One line per mask: image, id, area in px."""
from everything.export import Exporter

AREAS = Exporter("tiny_exporter:write", "areas of masks as text")
NUMBER = 7

def write(images, job):
    with job.file("areas.txt").open("w", encoding="utf-8") as file:
        for image in images:
            for piece in image.pieces():
                file.write(f"{image.name}\\t{piece.id}\\t{int(piece.mask.sum())}\\n")
            job.fidelity.add_exact(len(image.annotations))
            job.place(image, f"images/{image.name}")
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "tiny_exporter.py").write_text(MODULE)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--quiet", "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def run_export(installed: Path, home: Path, to: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(installed), str(ROOT)])
    command = [sys.executable, "-m", "everything", "export", str(home / "labels"), "--to", to]
    return subprocess.run(
        [*command, "--out", str(home / "out"), "--photos", "link", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_an_exporter_of_another_package_writes_its_format(installed: Path, tmp_path: Path):
    results = write_handed(tmp_path)
    done = run_export(installed, tmp_path, "areas")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["masks"] == 10
    rows = [line.split("\t") for line in (tmp_path / "out" / "areas.txt").read_text().splitlines()]
    expected = [
        [name, str(annotation["id"]), str(annotation["area"])]
        for name in results.files
        for annotation in results.read(name).annotations
        if annotation["area"]
    ]
    assert rows == expected
    assert (tmp_path / "out" / "images" / "a" / "four.png").is_symlink()
    assert json.loads((tmp_path / "out" / "export.json").read_text())["format"] == "areas"


def test_a_broken_exporter_is_an_error_of_one_line(installed: Path, tmp_path: Path):
    write_handed(tmp_path)
    done = run_export(installed, tmp_path, "number")
    assert done.returncode != 0
    assert "tiny-exporter: entry point number of everything.exporters" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_answered_with_all_that_work(installed: Path, tmp_path: Path):
    write_handed(tmp_path)
    done = run_export(installed, tmp_path, "tfrecord")
    text = " ".join(done.stderr.split())
    assert "tfrecord: unknown format: choose one of coco," in text
    assert "mask-png, datasets, areas" in text
