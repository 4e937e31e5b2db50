"""`-q`, `-v` and the spinner of the commands that read results."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from everything.cli.main import app
from tests.labelled import disc, write_labels

SIZE = (30, 40)
WRITERS = {
    "report": ["report", "LABELS", "--out", "out"],
    "export": ["export", "LABELS", "--to", "coco", "--out", "out"],
    "filter": ["filter", "LABELS", "--out", "out"],
    "import": ["import", "LABELS/annotations", "--out", "out", "--photos", "photos"],
}
COMMANDS = WRITERS | {"evaluate": ["evaluate", "LABELS", "--truth", "labels", "--no-boundaries"]}


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    masks = {name: [disc(SIZE, (20, 15), 12)] for name in ("a.png", "b.png")}
    return write_labels(tmp_path / "labels", tmp_path / "photos", masks)


def run(labels: Path, command: str, *more: str, code: int = 0) -> tuple[str, str]:
    """Return what a command prints to stdout and to stderr."""
    given = [part.replace("LABELS", str(labels)) for part in COMMANDS[command]]
    result = CliRunner().invoke(app, [*given, *more], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize("command", WRITERS)
def test_quiet_prints_nothing_but_the_summary_as_json(labels: Path, command: str) -> None:
    assert run(labels, command, "-q") == ("", "")
    (labels.parent / "out").rename(labels.parent / "first")
    text, said = run(labels, command, "--quiet", "--json")
    assert (text.startswith("{"), said) == (True, "")


def test_quiet_keeps_a_result_that_is_a_table(labels: Path) -> None:
    text, said = run(labels, "evaluate", "-q")
    assert "AR@100" in text
    assert said == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_keeps_warnings(labels: Path, command: str) -> None:
    if command == "evaluate":
        shutil.copytree(labels, "truth")
        labels = labels.rename(labels.with_name("damaged"))
        Path("truth").rename("labels")
    (labels / "annotations/b.png.json").write_text("{}")
    _, said = run(labels, command, "-q", code=3)
    assert "b.png" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_verbose_has_a_line_for_each_image(labels: Path, command: str) -> None:
    _, said = run(labels, command, "-v")
    for name in ("a.png", "b.png"):
        assert f"{name}: 1 masks" in said
    (labels.parent / "out").exists() and (labels.parent / "out").rename(labels.parent / "first")
    assert "1 masks" not in run(labels, command)[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_both_are_refused(labels: Path, command: str) -> None:
    assert "give one of them" in run(labels, command, "-q", "-v", code=2)[1]


def test_a_spinner_is_shown_on_a_terminal_while_pytorch_is_loaded(labels: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "everything", *COMMANDS["filter"]]
    command = [part.replace("LABELS", str(labels)) for part in command]
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(command, stderr=theirs, stdout=theirs, env=environment) as job:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # at its end
            while part := os.read(ours, 4096):
                said += part
    os.close(ours)
    assert b"loading PyTorch" in said
    assert job.returncode == 0
