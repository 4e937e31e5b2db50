import time

import pytest

from everything.core.stage_timer import COUNTS, STAGES, Overtime, StageTimer


def test_an_inner_stage_stops_the_outer_one():
    timer = StageTimer()
    with timer.stage("propose"):
        time.sleep(0.01)
        with timer.stage("decode"):
            time.sleep(0.05)
    assert timer.seconds["decode"] >= 0.05
    assert timer.seconds["propose"] < 0.05


def test_a_stage_ends_when_an_error_leaves_it():
    timer = StageTimer()
    with pytest.raises(KeyError), timer.stage("encode"):
        raise KeyError
    before = timer.seconds["encode"]
    time.sleep(0.01)
    with timer.stage("select"):
        pass
    assert timer.seconds["encode"] == before


def test_timing_names_every_stage_and_count():
    timing = StageTimer().timing()
    assert list(timing) == [*STAGES, "total", *COUNTS]


def test_total_is_the_sum_of_the_stages():
    timer = StageTimer()
    for stage in STAGES:
        with timer.stage(stage):
            time.sleep(0.001)
    timing = timer.timing()
    assert timing["total"] == pytest.approx(sum(timing[s] for s in STAGES), abs=1e-5)


def test_synchronise_is_called_at_every_change_of_stage():
    calls = []
    timer = StageTimer(lambda: calls.append(1))
    with timer.stage("encode"), timer.stage("decode"):
        pass
    assert len(calls) == 4


def test_no_stage_begins_when_the_time_is_used_up():
    timer = StageTimer(limit=0.02)
    with timer.stage("read"):
        time.sleep(0.001)
    time.sleep(0.05)  # between stages other images have their turn
    with pytest.raises(Overtime, match="before select"), timer.stage("propose"):
        _decode_and_select(timer)
    timer.limit = None
    with timer.stage("write"):
        pass
    assert timer.seconds["decode"] >= 0.03
    assert timer.seconds["select"] == 0


def _decode_and_select(timer: StageTimer) -> None:
    with timer.stage("decode"):
        time.sleep(0.03)
    with timer.stage("select"):
        raise AssertionError
