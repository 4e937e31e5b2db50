"""Memory that runs out, for real: a process has a limit, and allocations within it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import save_photo
from tests.reliability.short_of_memory import SIDE

# What is freed goes back at once, so that the limit is one of what is in use.
_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536",
           "MALLOC_TRIM_THRESHOLD_": "65536"}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not keep RLIMIT_AS")
def test_batches_are_halved_and_a_photo_too_large_is_a_row(tmp_path: Path) -> None:
    for number in (0, 2):
        save_photo(tmp_path / f"photos/{number}.png", number)
    Image.new("RGB", (8000, 6000), (90, 120, 40)).save(tmp_path / "photos/1.jpg")
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.short_of_memory", str(tmp_path)],
        cwd=Path(__file__).parents[2], env=os.environ | _MALLOC, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["equal"]
    assert found["masks"] > SIDE**2 / 2
    assert found["at"] < SIDE**2
    assert f"out of memory: points_per_batch is {SIDE**2 // 2} from here on" in done.stderr
    assert f"points_per_batch is {found['at']} from here on" in done.stderr
    assert (found["done"], found["failed"]) == (2, 1)
    (error,) = (tmp_path / "out/errors.jsonl").read_text().splitlines()
    assert json.loads(error)["name"] == "1.jpg"
    assert "not enough memory" in error
