"""What is measured is what is meant; the figures themselves are in docs/cluster.md."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from typer.testing import CliRunner

from everything.batch_jobs.measure import _same_photo, app, build
from everything.config import Recipe
from everything.jobs.label import label
from tests.jobs.clusters import in_one_worker


def test_a_job_that_is_done_leaves_nothing_to_do() -> None:
    found = CliRunner().invoke(app, ["resume", "--images", "1001"])
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["images"] == 1001
    assert figures["memory_peak_mb"] >= figures["memory_before_mb"] > 0


def test_the_model_that_takes_its_time(tmp_path: Path) -> None:
    recipe = Recipe(
        variant="nothing", sampler={"name": "nothing", "ms": 5.0}, version="1", weights=""
    )
    photos = _same_photo(tmp_path, 3)
    summary = label(
        photos, tmp_path / "out", recipe, build=build, preview=False, executor=in_one_worker
    )
    assert (summary.done, summary.masks) == (3, 0)
    assert summary.seconds >= 0.015
    again = partial(label, photos, tmp_path / "out", recipe, build=build, preview=False)
    assert again(executor=in_one_worker).skipped == 3
