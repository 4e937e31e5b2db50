"""How far a command is."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from everything.jobs import progress
from everything.jobs.summary import Summary


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    with progress.show_count("photos", Console(file=file)) as show:
        for done in range(0, 2001, 100):
            show(done, 2000)
            now[0] += 1
    assert file.getvalue().splitlines() == [
        "500 of 2,000 photos, 0:00:15 left",
        "1,000 of 2,000 photos, 0:00:10 left",
        "1,500 of 2,000 photos, 0:00:05 left",
        "2,000 of 2,000 photos, 0:00:00 left",
    ]


def test_a_job_of_which_nothing_comes_is_heard_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    monkeypatch.setattr(progress, "_SILENT", 0.05)
    console = Console(file=io.StringIO())
    progress.log_to(console)
    with progress.show_progress(Summary(Path("out"), 7), console):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and console.file.getvalue().count("\n") < 2:
            time.sleep(0.01)
    assert console.file.getvalue().count(" INFO 0/7 images, 0.00 images/s, 0 masks\n") >= 2


def test_a_bar_on_a_terminal():
    file = io.StringIO()
    with progress.show_count("photos", Console(file=file, force_terminal=True, width=60)) as show:
        show(3, 12)
    assert "3/12\x1b[0m photos" in file.getvalue()


def test_what_nobody_knows_in_all(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for terminal in (False, True):
        file = io.StringIO()
        with progress.show_count("photos", Console(file=file, force_terminal=terminal)) as show:
            now[0] += 60
            show(1234, None)
        assert (file.getvalue() == "1,234 photos\n") or ("1234/?" in file.getvalue() and terminal)
