"""A few of the kills that tests.reliability.measure does by the hundred."""

from __future__ import annotations

import random
from pathlib import Path

from tests.reliability import kills as killing


def test_killed_jobs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    killing.prepare()
    photos, undisturbed = killing.make_photos(tmp_path / "photos", 30), tmp_path / "undisturbed"
    killing.life_of(photos, tmp_path / "imports", 1)
    life = killing.life_of(photos, undisturbed, 1)
    rng, done = random.Random(), killing.Kills()  # other moments every time
    while len(done) < 10:
        out = tmp_path / f"out-{done.runs}"
        killing.torment(photos, out, 1, rng, life, done, 10 - len(done))
        killing.check_equal(out, undisturbed)
        assert done.runs < 20, f"jobs are over before they can be killed: {done}"
    assert killing.check_whole(undisturbed) == 31
