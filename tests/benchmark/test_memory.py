from __future__ import annotations

from pathlib import Path

import torch

from everything.benchmark.contenders import Key, Spec
from everything.benchmark.contest import OOM
from everything.benchmark.memory import peak_of, peak_resident, resident
from everything.inputs import Source
from everything.loading import resolve
from tests.benchmark.contenders import build_hungry, build_killed
from tests.fakes import save_photo

MIB = 2**20


def spec(variant: str, build) -> Spec:
    return Spec(Key(variant, "grid"), resolve(variant, sampler="grid-16"), build)


def test_peaks_are_seen_and_do_not_go_down():
    before = peak_resident()
    block = torch.ones(64 * MIB // 4)
    assert resident() > 64 * MIB
    at_most = peak_resident()
    assert at_most >= before
    assert at_most >= resident()
    del block
    assert peak_resident() >= at_most - MIB  # the system counts in batches of pages


def test_a_contender_is_measured_alone(tmp_path: Path):
    save_photo(tmp_path / "a.png")
    # What this process holds must not count: the other one has never had it.
    ballast = torch.ones(2 * 2**30 // 4)
    peak = peak_of(spec("sam-vit-b", build_hungry), Source(str(tmp_path), "a.png"), 1)
    assert peak.failure == ""
    assert 50 * MIB < peak.ready <= peak.peak < ballast.nbytes


def test_no_memory_and_a_killed_process_are_oom(tmp_path: Path):
    save_photo(tmp_path / "a.png")
    photo = Source(str(tmp_path), "a.png")
    assert peak_of(spec("sam-vit-l", build_hungry), photo, 1).failure == OOM
    assert peak_of(spec("sam-vit-b", build_killed), photo, 1).failure == OOM
