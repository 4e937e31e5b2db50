"""Samplers x variants on a real cluster of several machines' processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from everything.batch_jobs.compare import compare, merged
from everything.benchmark import bench
from everything.benchmark.report import Report
from everything.errors import InputError, JobError
from everything.io.images.listing import list_images
from everything.io.storage.locations import Url, filesystem
from everything.io.storage.object_store import ObjectStore
from tests.fakes import save_photo
from tests.jobs.clusters import Machines, machines
from tests.s3 import s3_server

cluster = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAMPLERS = ["grid-16", "all-instance"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with s3_server(), machines(tmp_path_factory.mktemp("tries")) as found:
        yield found


@pytest.fixture
def bucket(grid: Machines, tmp_path: Path) -> Url:
    files, _ = filesystem(Url("s3://photos"))
    files.mkdir("photos")
    for number in range(2):
        save_photo(tmp_path / f"{number}.jpg", number, (96, 128))
        content = (tmp_path / f"{number}.jpg").read_bytes()
        ObjectStore(Url("s3://photos")).write(f"p/{number}.jpg", [content])
    return Url("s3://photos/p")


def counts(report: Report) -> dict[str, dict[str, float]]:
    return {str(row.key): row.counts for row in report.rows()}


def test_pairs_are_measured_on_the_cluster(bucket: Url, tmp_path: Path) -> None:
    photos = list(list_images([bucket]))
    report = compare(photos, ["nano", "nothing"], SAMPLERS, repeats=2)
    rows = {str(row.key): row for row in report.rows()}
    assert len(rows) == 2
    assert [row.samples for row in rows.values()] == [4, 4]
    assert all(row.latency is not None and row.latency.median > 0 for row in rows.values())
    # What is counted does not depend on the machine.
    local = bench(list(list_images([tmp_path])), ["nano"], SAMPLERS, repeats=1, memory=False)
    assert counts(report) == counts(local)
    assert "pairs by machine" in report.notes[0]
    assert sum("nothing" in note for note in report.notes) == 2

    command = [
        sys.executable,
        "-m",
        "everything.batch_jobs.compare",
        "--input",
        str(bucket),
        "--repeats",
        "1",
    ]
    command += ["--variants", "nano", "--samplers", ",".join(SAMPLERS), "--out"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, check=True)
    assert b"all-instance" in done.stdout
    assert list((tmp_path / "out").glob("*.json"))


test_pairs_are_measured_on_the_cluster.pytestmark = cluster  # type: ignore[attr-defined]


def test_what_cannot_be_measured_at_all() -> None:
    with pytest.raises(InputError, match="no images"):
        compare([], ["nano"], ["grid-16"])
    with pytest.raises(JobError, match="nothing could be measured: ucm x: broken"):
        merged([("here", json.dumps({"failed": "ucm x: broken"}))], [])
