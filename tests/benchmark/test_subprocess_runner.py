"""Contenders in processes of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from everything.benchmark.cases import Spec
from everything.benchmark.interleaved_runs import OOM, run_interleaved
from everything.benchmark.subprocess_runner import SubprocessRunner
from everything.benchmark.types import MALLOC_SUFFIX, Key
from everything.errors import ConfigError, ImageError
from everything.io.images.sources import Source
from everything.recipes.resolve import resolve
from tests.benchmark.cases import build_hungry, build_killed, build_tuned
from tests.fakes import save_photo

MIB = 2**20


def spec(variant: str, build, by: str = "everything") -> Spec:
    return Spec(Key(variant, "grid", by), resolve(variant, sampler="grid-16"), build)


@pytest.fixture
def photo(tmp_path: Path) -> Source:
    save_photo(tmp_path / "a.png")
    return Source(str(tmp_path), "a.png")


def test_malloc_and_memory_are_its_own_and_no_photo_is_an_error_as_here(
    photo: Source, tmp_path: Path
):
    # What this process holds must not count: the other one has never had it.
    ballast = torch.ones(2 * 2**30 // 4)
    (tmp_path / "broken.png").write_bytes(b"no photo")
    before = dict(os.environ)
    with SubprocessRunner(spec("sam-vit-b", build_tuned, "plain" + MALLOC_SUFFIX), 1) as one:
        assert os.environ == before
        sample, _ = one.measure(photo, 0)
        assert sample.failure == one.peak.failure == ""
        assert sample.counts["prompts"] == 256
        assert 50 * MIB < one.peak.ready <= one.peak.peak < ballast.nbytes
        with pytest.raises(ImageError, match=r"broken\.png"):
            one.measure(Source(str(tmp_path), "broken.png"), 0)


def test_no_memory_and_a_killed_process_are_oom_and_others_go_on(photo: Source):
    specs = [spec("sam-vit-l", build_hungry), spec("sam-vit-b", build_killed)]
    with SubprocessRunner(specs[0], 1) as hungry, SubprocessRunner(specs[1], 1) as killed:
        found = run_interleaved([hungry, killed], [photo], 2, 0)
        assert {s.key: s.failure for s in found.samples} == {s.key: OOM for s in specs}
        assert hungry.peak.failure == killed.peak.failure == OOM


def test_what_cannot_be_loaded_is_an_error_as_here_and_malloc_is_tuned_only_where_asked():
    with pytest.raises(ConfigError, match="as it is"):
        SubprocessRunner(spec("sam-vit-b", build_tuned, "plain"))
