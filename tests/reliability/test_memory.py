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


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not keep RLIMIT_AS")
def test_small_annotations_of_enormous_images_are_left_out_or_cost_little(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.large_annotations", str(tmp_path)],
        cwd=Path(__file__).parents[2], env=os.environ | _MALLOC, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bytes"] < 40_000
    # Run lengths: everything is exact.
    for to in ("coco", "datasets"):
        assert [found[to][key] for key in ("images", "masks", "large")] == [3, 11, 0]
    limit = "are over the limit of 9,000,000 px: raise --max-pixels"
    for to in ("voc-png", "panoptic", "mask-png"):
        assert found[to]["images"] == 2
        assert f"a-huge.png: 65535 x 65535 px {limit}" in found[to]["reasons"]
    for to in ("yolo-seg", "geojson", "cvat", "label-studio", "coco-polygons"):
        assert found[to]["images"] == 3
        reasons = [reason for reason in found[to]["reasons"] if reason.startswith("a-huge")]
        assert f"a-huge.png: mask 0: the 65535 x 65535 px of its box {limit}: left out" in reasons
        assert any("mask 2: its border has more than 4,000,000 px" in one for one in reasons)
    # Against itself every mask fits, also those of 65,535 x 65,535 px.
    assert found["evaluate"] == {"photos": 3, "covering": 1.0}
    assert found["report"] == 11
    assert found["filter"] == {"photos": 1, "unreadable": 2}
