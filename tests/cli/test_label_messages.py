"""`label -q`, `-v`, `--log-json` and `--dry-run`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from everything.cli.main import app
from tests.fakes import build, save_photo


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two images that can be read and one that cannot, and discs in place of models."""
    import everything.jobs.dry_run
    import everything.jobs.label

    for command in (everything.jobs.label.label, everything.jobs.dry_run.plan):
        monkeypatch.setitem(command.__kwdefaults__, "build", build)
    for number in range(2):
        save_photo(tmp_path / f"photos/{number}.jpg", number)
    (tmp_path / "photos/broken.jpg").touch()
    yield tmp_path / "photos"
    logging.getLogger("everything").handlers.clear()
    logging.getLogger("everything").propagate = True


def label(photos: Path, *more: str, code: int = 3) -> tuple[str, list[str]]:
    """Return what was printed to stdout, and the lines on stderr."""
    out = photos.with_name("out")
    command = ["label", str(photos), "--out", str(out), "--variant", "sam-vit-b", "--no-preview"]
    command += ["--points-per-side", "2", "--pred-iou-thresh", "0.1"]
    command += ["--stability-score-thresh", "0", *more]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr.splitlines()


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_quiet(photos: Path) -> None:
    assert label(photos, "-q") == ("", [])
    text, lines = label(photos, "--quiet", "--json", "--overwrite")
    assert (json.loads(text)["done"], lines) == (2, [])


def test_quiet_keeps_warnings_and_errors(photos: Path) -> None:
    label(photos, "-q")
    save_photo(photos / "0.jpg", 5, (30, 40))
    _, (line,) = label(photos, "-q")
    assert "WARNING 1 images have changed since they were labelled" in line
    _, (line,) = label(photos, "-q", "--points-per-side", "3", code=1)
    assert "has results of another recipe" in line


def test_verbose_has_a_line_for_each_image(photos: Path) -> None:
    _, lines = label(photos, "-v")
    said = "\n".join(lines)
    assert said.count(" masks, seconds: read ") == 2
    assert "failed: " in said
    assert "broken.jpg: the file is empty" in said
    _, lines = label(photos, "-v")
    assert "\n".join(lines).count("skipped: labelled before") == 2


def test_events_of_a_job(photos: Path) -> None:
    text, lines = label(photos, "--log-json", "--json")
    start, *images, end = (one for one in events(lines) if one["event"] != "log")
    assert (start["event"], start["images"], start["variant"]) == ("start", 3, "sam-vit-b")
    assert {one["event"] for one in images} == {"image"}
    by_name = {one["name"]: one for one in images}
    assert by_name.keys() == {"0.jpg", "1.jpg", "broken.jpg"}
    first, broken = by_name["0.jpg"], by_name["broken.jpg"]
    assert (first["status"], first["width"], first["height"]) == ("done", 64, 48)
    assert first["masks"] > 0
    assert 0 < first["seconds"]["encode"] + first["seconds"]["decode"] <= first["seconds"]["total"]
    assert (broken["status"], "masks" in broken) == ("failed", False)
    assert "the file is empty" in broken["error"]
    assert (end["event"], end["exit_code"]) == ("end", 3)
    assert {key: end[key] for key in json.loads(text)} == json.loads(text)
    again = {one["name"]: one["status"] for one in events(label(photos, "--log-json")[1])
             if one["event"] == "image"}  # fmt: skip
    assert again == {"0.jpg": "skipped", "1.jpg": "skipped", "broken.jpg": "failed"}


def test_errors_and_warnings_are_events(photos: Path) -> None:
    label(photos, "-q")
    _, lines = label(photos, "--log-json", "--points-per-side", "3", code=1)
    error = events(lines)[-1]
    assert (error["event"], error["exit_code"]) == ("error", 1)
    assert "another recipe" in error["message"]
    _, lines = label(photos, "--log-json", "--points-per-side", "3", "--continue-anyway")
    levels = {one["level"] for one in events(lines) if one["event"] == "log"}
    assert "warning" in levels


def test_levels_exclude_each_other(photos: Path) -> None:
    _, (line,) = label(photos, "-q", "-v", code=2)
    assert "--quiet, --verbose and --log-json: give one of them" in line


def test_dry_run(photos: Path) -> None:
    text, _ = label(photos, "--dry-run", code=0)
    for words in ("images", "to label", "seconds per image", "estimated time", "nothing was"):
        assert words in text
    assert "broken.jpg: the file is empty" in text
    found = json.loads(label(photos, "--dry-run", "--json", "--workers", "1", code=0)[0])
    assert (found["images"], found["done"], found["measured"]) == (3, 0, 3)
    assert found["seconds"] == pytest.approx(3 * found["seconds_per_image"])
    assert not photos.with_name("out").exists()
    _, lines = label(photos, "--dry-run", "--set", "output.form=tar", code=2)
    assert "add --ray" in lines[-1]
