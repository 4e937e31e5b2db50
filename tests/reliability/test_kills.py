"""A few of the kills that tests.reliability.measure does by the hundred."""

from __future__ import annotations

import os
import random
import signal
from multiprocessing import forkserver
from pathlib import Path

from tests.reliability import kills as killing


def test_killed_jobs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    killing.prepare()
    photos, undisturbed = killing.make_photos(tmp_path / "photos", 30), tmp_path / "undisturbed"
    killing.life_of(photos, tmp_path / "imports", 1)
    life = killing.life_of(photos, undisturbed, 1)
    rng, done = random.Random(), killing.Kills()  # other moments every time
    while len(done) < 4:
        out = tmp_path / f"out-{done.runs}"
        killing.torment(photos, out, 1, rng, life, done, 4 - len(done))
        killing.check_equal(out, undisturbed)
        assert done.runs < 20, f"jobs are over before they can be killed: {done}"
    assert killing.check_whole(undisturbed) == life.results == 31


def test_the_server_that_starts_the_jobs_may_die(tmp_path: Path) -> None:
    killing.prepare()
    photos, undisturbed = killing.make_photos(tmp_path / "photos", 6), tmp_path / "undisturbed"
    life = killing.life_of(photos, undisturbed, 1)
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    began = killing._started(photos, tmp_path / "out", 1, False)
    os.kill(server, signal.SIGKILL)
    assert killing._ended(began, tmp_path / "out") in (killing._ORPHANED, 3)
    done = killing.Kills()
    killing.torment(photos, tmp_path / "out", 1, random.Random(), life, done, 1)
    killing.check_equal(tmp_path / "out", undisturbed)
