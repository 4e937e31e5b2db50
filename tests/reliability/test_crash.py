"""A photo that the one process of a job crashes in costs a start, and then itself only."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from functools import partial
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from everything.errors import ConfigError
from everything.io.images.sources import list_inputs
from everything.io.storage.locations import Url
from everything.io.storage.object_store import ObjectStore
from everything.io.storage.ownership import MARKER, header
from everything.jobs.label import label
from everything.jobs.ray_cluster import Cluster
from everything.jobs.status import has_crashed
from tests.fakes import RECIPE, SEGFAULTS, build, save_photo
from tests.io.storage.test_object_store import results

_context = multiprocessing.get_context("forkserver")


def job(photos: Path, out: Path) -> None:
    quiet = Console(file=StringIO())
    summary = label(partial(list_inputs, [photos]), out, RECIPE, build=build, preview=False,
                    console=quiet)  # fmt: skip
    sys.exit(summary.exit_code)


def started(photos: Path, out: Path) -> int | None:
    """Run the job as the command does it, in a process of its own, and return how that ended."""
    _context.set_forkserver_preload(["everything.jobs.annotator", "tests.fakes"])
    process = _context.Process(target=job, args=[photos, out])
    process.start()
    process.join(300)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def test_the_same_command_again_gets_over_it(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(6):
        save_photo(photos / f"{number}.png", number)
    label(partial(list_inputs, [photos]), tmp_path / "undisturbed", RECIPE, build=build,
          preview=False)  # fmt: skip
    for number in (2, 4):  # it is started again once, not for each of them
        save_photo(photos / f"{number}-crash.png", size=(12, SEGFAULTS))
    assert started(photos, out) == -signal.SIGSEGV
    assert started(photos, out) == 3
    assert results(out) == results(tmp_path / "undisturbed")
    lines = (out / "errors.jsonl").read_text().splitlines()
    errors = {line["name"]: line["error"] for line in map(json.loads, lines)}
    assert set(errors) == {"2-crash.png", "4-crash.png"}
    for name, error in errors.items():
        assert error.startswith(f"{photos}/{name}: its process was killed (SIGSEGV), and so did 2")
    assert started(photos, out) == 3  # tried again, and still in a process of their own


def test_a_store_in_memory_has_no_other_processes(tmp_path: Path) -> None:
    root = Url(f"memory://{uuid4().hex}")
    save_photo(tmp_path / "0.png")
    ObjectStore(root).write(MARKER, [header("results")])
    ObjectStore(root).write("manifest/_job.json", [b'{"images": 1, "began": 1.0}'])
    assert has_crashed(ObjectStore(root))
    quiet = Console(file=StringIO())
    label(partial(list_inputs, [tmp_path]), root, RECIPE, build=build, preview=False, console=quiet)
    assert list(results(root)) == ["0.png.json"]
    for processes in ({"workers": 2}, {"executor": Cluster().run}):
        with pytest.raises(ConfigError, match="visible to one process only: give a folder or a"):
            label(partial(list_inputs, [tmp_path]), root, RECIPE, build=build, **processes)
