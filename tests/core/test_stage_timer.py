import time

import pytest

from everything.core.stage_timer import COUNTS, STAGES, Clock, Overtime


def test_an_inner_stage_stops_the_outer_one():
    clock = Clock()
    with clock.stage("propose"):
        time.sleep(0.01)
        with clock.stage("decode"):
            time.sleep(0.05)
    assert clock.seconds["decode"] >= 0.05
    assert clock.seconds["propose"] < 0.05


def test_a_stage_ends_when_an_error_leaves_it():
    clock = Clock()
    with pytest.raises(KeyError), clock.stage("encode"):
        raise KeyError
    before = clock.seconds["encode"]
    time.sleep(0.01)
    with clock.stage("select"):
        pass
    assert clock.seconds["encode"] == before


def test_timing_names_every_stage_and_count():
    timing = Clock().timing()
    assert list(timing) == [*STAGES, "total", *COUNTS]


def test_total_is_the_sum_of_the_stages():
    clock = Clock()
    for stage in STAGES:
        with clock.stage(stage):
            time.sleep(0.001)
    timing = clock.timing()
    assert timing["total"] == pytest.approx(sum(timing[s] for s in STAGES), abs=1e-5)


def test_synchronise_is_called_at_every_change_of_stage():
    calls = []
    clock = Clock(lambda: calls.append(1))
    with clock.stage("encode"), clock.stage("decode"):
        pass
    assert len(calls) == 4


def test_no_stage_begins_when_the_time_is_used_up():
    clock = Clock(limit=0.02)
    with clock.stage("read"):
        time.sleep(0.001)
    time.sleep(0.05)  # between stages other images have their turn
    with pytest.raises(Overtime, match="before select"), clock.stage("propose"):
        _decode_and_select(clock)
    clock.limit = None
    with clock.stage("write"):
        pass
    assert clock.seconds["decode"] >= 0.03
    assert clock.seconds["select"] == 0


def _decode_and_select(clock: Clock) -> None:
    with clock.stage("decode"):
        time.sleep(0.03)
    with clock.stage("select"):
        raise AssertionError
