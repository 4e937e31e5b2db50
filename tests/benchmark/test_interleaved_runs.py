from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from everything.benchmark.environment import synchronise
from everything.benchmark.interleaved_runs import (
    OOM,
    InProcessRunner,
    Measurements,
    Sample,
    run_interleaved,
    schedule,
)
from everything.benchmark.types import OWN_PROGRAM, BenchmarkCase, Key
from everything.errors import ImageError, WeightsError
from everything.io.images.sources import Source
from tests.fakes import save_photo

A, B, C = Key("a", "grid"), Key("b", "grid"), Key("b", "grid", "peer")


@pytest.fixture
def photos(tmp_path: Path) -> list[Source]:
    for number in range(2):
        save_photo(tmp_path / f"{number}.png", number)
    return [Source(str(tmp_path), "0.png"), Source(str(tmp_path), "1.png")]


def resting(
    key: Key, seconds: float = 0.0, wait: Callable[[], None] | None = None
) -> InProcessRunner:
    def run(pixels, timer):
        assert pixels.shape == (48, 64, 3)
        with timer.stage("encode"):
            time.sleep(seconds)
        timer.counts["prompts"] += 2
        return []

    return InProcessRunner(BenchmarkCase(key, run), wait)


def failing(key: Key, error: BaseException, after: int = 0) -> InProcessRunner:
    calls = []

    def run(pixels, timer):
        calls.append(1)
        if len(calls) > after:
            raise error
        return []

    return InProcessRunner(BenchmarkCase(key, run))


def test_contenders_take_turns_on_each_photo_and_nobody_always_begins():
    cases = [resting(key) for key in (A, B, C)]
    order = [(c.key, photo, round_) for c, photo, round_ in schedule(cases, 2, 2, 1)]
    assert order == [
        *((key, 0, -1) for key in (A, B, C)),
        *((key, 0, 0) for key in (B, C, A)),
        *((key, 1, 0) for key in (C, A, B)),
        *((key, 0, 1) for key in (A, B, C)),
        *((key, 1, 1) for key in (B, C, A)),
    ]


def test_samples_are_of_the_rounds_and_not_of_the_warm_up(photos: list[Source]):
    told: list[Sample] = []
    found = run_interleaved([resting(A), resting(B)], photos, 3, 2, step=told.append)
    assert len(found.samples) == 2 * 2 * 3
    assert len(told) == len(found.samples) + 2 * 2
    assert {(s.photo, s.round) for s in found.samples} == {
        (name, round_) for name in ("0.png", "1.png") for round_ in range(3)
    }
    assert set(found.masks) == {(key, name) for key in (A, B) for name in ("0.png", "1.png")}
    assert not found.interrupted


def test_latency_is_all_but_reading(photos: list[Source]):
    sample = run_interleaved([resting(A, 0.05)], photos[:1], 1, 0).samples[0]
    assert sample.counts["prompts"] == 2
    assert sample.seconds["encode"] >= 0.05
    assert sample.seconds["read"] > 0
    parts = sample.seconds["encode"] + sample.seconds["other"]
    assert sample.latency == pytest.approx(parts)


def test_the_device_is_synchronised_at_every_change_of_stage(photos: list[Source]):
    calls: list[int] = []
    run_interleaved([resting(A, wait=lambda: calls.append(1))], photos[:1], 1, 0)
    # read, other, encode inside it: each is entered and left.
    assert len(calls) == 6


def test_it_is_the_recipes_device_that_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    wait = synchronise(torch.device("cuda:1"))
    assert wait is not None
    wait()
    assert waited == [torch.device("cuda:1")]
    assert synchronise(torch.device("mps")) is torch.mps.synchronize
    assert synchronise(torch.device("cpu")) is None


def test_who_runs_out_of_memory_is_a_row_and_leaves_the_race(photos: list[Source]):
    def run(pixels, timer):
        torch.empty(2**58)  # more than any machine has
        return []

    hungry = InProcessRunner(BenchmarkCase(A, run))
    found = run_interleaved([hungry, resting(B)], photos, 2, 0)
    of_a = [s for s in found.samples if s.key == A]
    assert [s.failure for s in of_a] == [OOM]
    assert of_a[0].seconds == {}
    assert sum(s.key == B for s in found.samples) == 4


def test_a_peer_that_fails_is_a_row_with_its_reason(photos: list[Source]):
    found = run_interleaved([failing(C, IndexError("no\nmask"), after=1), resting(A)], photos, 1, 0)
    assert [s.failure for s in found.samples if s.key == C] == ["", "IndexError: no mask"]
    assert sum(s.key == A for s in found.samples) == 2


@pytest.mark.parametrize("error", [IndexError("ours"), WeightsError("gone")])
def test_our_own_errors_are_raised_and_what_there_was_is_kept(
    photos: list[Source], error: Exception
):
    assert A.by == OWN_PROGRAM
    found = Measurements()
    with pytest.raises(type(error)):
        run_interleaved([resting(B), failing(A, error)], photos, 1, 0, into=found)
    assert [s.key for s in found.samples] == [B]


def test_an_interrupt_keeps_what_there_is(photos: list[Source]):
    found = run_interleaved([resting(B), failing(A, KeyboardInterrupt(), after=1)], photos, 5, 0)
    assert found.interrupted
    assert [s.key for s in found.samples] == [B, A]


def test_a_photo_that_cannot_be_read_ends_it(tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        run_interleaved([resting(A)], [Source(str(tmp_path), "broken.jpg")], 1, 0)
