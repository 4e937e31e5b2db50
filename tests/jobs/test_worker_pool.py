from __future__ import annotations

import io
import logging
import os
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from everything.core.threads import usable_cores
from everything.io.images.sources import list_inputs
from everything.jobs.label import label
from tests.fakes import RECIPE, build, save_photo


def test_cores_that_a_process_may_use() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_a_system_that_tells_of_all_cores_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    for name in "ab":
        save_photo(tmp_path / f"photos/{name}.jpg")
    listing, quiet = partial(list_inputs, [tmp_path / "photos"]), Console(file=io.StringIO())
    job = partial(label, build=build, preview=False, console=quiet)
    with caplog.at_level(logging.INFO):
        summary = job(listing, tmp_path / "out", RECIPE)
    assert summary.done == 2
    assert "1 of 7 cores are in use: --workers 7 is faster" in caplog.text
