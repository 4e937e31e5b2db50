from __future__ import annotations

import io
import logging
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from everything.core.threads import usable_cores
from everything.io.images.sources import list_inputs
from everything.jobs.annotator import Annotator
from everything.jobs.label import label
from everything.jobs.worker_pool import _started
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


def _sleep(begun: Path) -> Annotator:
    """Build nothing, for long: a worker that is busy when its parent dies."""
    begun.with_suffix(".new").write_text(str(os.getpid()))
    begun.with_suffix(".new").rename(begun)
    time.sleep(300)
    raise AssertionError


def _start_worker(begun: Path) -> None:
    _pipe, worker_end = multiprocessing.Pipe()
    _started((worker_end, partial(_sleep, begun), 1))
    time.sleep(300)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says which processes run")
def test_a_busy_worker_ends_with_its_parent(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    parent = multiprocessing.get_context("spawn").Process(target=_start_worker, args=[begun])
    parent.start()
    deadline = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(begun.read_text())
    try:
        assert _is_running(worker)
        parent.kill()
        parent.join()
        deadline = time.monotonic() + 60
        while _is_running(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _is_running(worker)
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"
