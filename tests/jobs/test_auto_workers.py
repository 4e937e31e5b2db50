"""How many workers a job has if nobody says."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from everything.config import Compute, Decoding, Recipe
from everything.jobs import auto_workers as auto
from everything.jobs.auto_workers import auto_workers, devices_of, gpu_need, memory_need
from tests.fakes import RECIPE
from tests.jobs.test_label import run, some_photos

GIB = 2**30
HOME = Path(__file__).parents[2]


def of(variant: str, **compute: Any) -> Recipe:
    return RECIPE.model_copy(update={"variant": variant, "compute": Compute(**compute)})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set what the machine has: cores, GiB of memory, GPUs and GiB free on each."""

    def has(cores: int = 16, memory: float = 1000, gpus: int = 0, free: float = 80) -> None:
        monkeypatch.setattr(auto, "usable_cores", lambda: cores)
        monkeypatch.setattr(auto, "available_memory", lambda: int(memory * GIB))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(auto, "free_memory", lambda compute: int(free * GIB))

    has()
    return has


@pytest.mark.parametrize(
    ("variant", "images", "count"),
    [
        ("ucm-lite0", 1, 1),
        ("ucm-lite0", 10, 1),  # --demo: a second process would start as long as this takes
        ("ucm-lite0", 100, 12),
        ("ucm-lite0", 1000, 16),
        ("sam-vit-b", 3, 1),
        ("sam-vit-b", 8, 4),
        ("sam-vit-b", 1000, 16),
        ("from-a-plugin", 8, 4),
    ],
)
def test_few_images_have_few_workers(machine: Any, variant: str, images: int, count: int) -> None:
    assert auto_workers(of(variant), images, 1) == count


def test_cores_are_divided_by_threads(machine: Any) -> None:
    assert auto_workers(of("ucm"), 1000, 4) == 4
    machine(cores=2)
    assert auto_workers(of("ucm"), 1000, 4) == 1


@pytest.mark.parametrize(("memory", "count"), [(0.5, 1), (10, 2), (40, 8)])
def test_memory_bounds_their_number(
    machine: Any, memory: float, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    machine(memory=memory)
    with caplog.at_level(logging.INFO):
        assert auto_workers(of("sam-vit-h"), 1000, 1) == count  # 3.8 GiB each
    assert f"{count} worker processes, as many as memory allow" in caplog.text


# Peaks of docs/bench.md, table 3, MiB.
@pytest.mark.parametrize(
    ("variant", "peak"),
    [
        ("sam-vit-h", 3725), ("sam-vit-l", 2352), ("sam-vit-b", 1384), ("mobilesam", 1142),
        ("repvit-sam", 1264), ("efficientvit-sam-xl1", 1770), ("slimsam-50", 1082), ("nano", 850),
        ("ucm", 1045), ("q-tinysam", 1123),
    ],
)  # fmt: skip
def test_the_need_covers_what_was_measured(variant: str, peak: int) -> None:
    assert 1 <= memory_need(of(variant)) / (peak * 2**20) < 2


def test_the_plain_decoder_needs_more() -> None:
    plain = of("sam2-hiera-b+").model_copy(update={"decoding": Decoding(decoder="plain")})
    assert memory_need(plain) > 3504 * 2**20 > memory_need(of("sam2-hiera-b+"))


@pytest.mark.parametrize(
    ("device", "devices"),
    [
        ("auto", ["cuda:0", "cuda:1"]), ("cuda", ["cuda:0", "cuda:1"]), ("cuda:1", ["cuda:1"]),
        ("cpu", ["cpu"]),
    ],
)  # fmt: skip
def test_all_gpus_are_used_unless_one_is_named(
    machine: Any, device: str, devices: list[str]
) -> None:
    machine(gpus=2)
    assert devices_of(Compute(device=device)) == devices


def test_gpus_have_several_workers_each(machine: Any) -> None:
    assert devices_of(Compute()) == ["auto"]
    machine(cores=64, gpus=2)
    assert auto_workers(of("mobilesam"), 63, 1) == 1  # CUDA takes seconds to start
    assert auto_workers(of("mobilesam"), 10_000, 1) == 8
    assert auto_workers(of("mobilesam", device="cuda:1"), 10_000, 1) == 4
    assert auto_workers(of("ucm"), 10_000, 1) > 8  # their trees keep the cores busy
    machine(cores=3, gpus=2)
    assert auto_workers(of("mobilesam"), 10_000, 1) == 3
    machine(cores=64, gpus=1, free=12)
    assert auto_workers(of("ucm"), 10_000, 1) == int(9.6 * GIB) // gpu_need(of("ucm")) == 2
    assert auto_workers(of("nano", device="mps"), 10_000, 1) == 1


def test_a_job_asks_for_them(tmp_path: Path, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(cores=2)
    started = []
    pool = "everything.jobs.label.run_in_processes"
    original = run.__globals__["label"].__globals__["run_in_processes"]
    monkeypatch.setattr(pool, lambda *args: (started.append(args[4]), original(*args)))
    photos = some_photos(tmp_path / "photos", 5)
    assert run(photos, tmp_path / "auto", workers=None).done == 5
    assert started == [2]
    few = some_photos(tmp_path / "few", 3)
    assert run(few, tmp_path / "one", workers=None).done == 3
    assert run(photos, tmp_path / "explicit", workers=1).done == 5
    assert started == [2]


SCRIPT = """
from functools import partial
import io, sys
from rich.console import Console
from everything.io.images.sources import list_inputs
from everything.jobs.label import label
from tests.fakes import RECIPE, build
from pathlib import Path
photos, out = map(Path, sys.argv[1:])
quiet = Console(file=io.StringIO())
images = partial(list_inputs, [photos], out)
summary = label(images, out, RECIPE, workers=2, build=build, preview=False, console=quiet)
print("done", summary.done)
"""


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    photos = some_photos(tmp_path / "photos", 2)
    found = subprocess.run(
        [sys.executable, script, photos, tmp_path / "out"],
        capture_output=True, text=True, timeout=300, cwd=HOME, env={"PYTHONPATH": str(HOME)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout == "done 2\n"
