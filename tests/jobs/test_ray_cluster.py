"""Jobs on a real cluster of three machines' processes: what comes out whatever happens to them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from rich.console import Console

from everything.config import Recipe
from everything.errors import StoreError, WeightsError
from everything.io.images.decode import Limits
from everything.io.images.listing import list_images
from everything.io.results.manifest import Manifest
from everything.io.results.result_document import read_document
from everything.io.results.writer import folder_at
from everything.io.storage.locations import Location, Url, filesystem, located
from everything.io.storage.object_store import ObjectStore
from everything.jobs.label import label
from everything.jobs.ray_cluster import Cluster
from everything.jobs.status import status
from everything.jobs.summary import Summary
from tests.fakes import HANGS, POISON, RECIPE, build_nothing, save_photo
from tests.jobs import clusters
from tests.jobs.clusters import HEAVY, SLOW, Machines, forget, machines, processes, tries
from tests.s3 import s3_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
    # Ray 2.60 warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    # Ray leaves its pipes and sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CLUSTER = Cluster(memory=2**30, block=4)
HEIGHTS = iter(range(40, 90))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with s3_server(), machines(tmp_path_factory.mktemp("tries")) as cluster:
        files, _ = filesystem(Url("s3://bucket"))
        files.mkdir("bucket")
        yield cluster


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, grid: Machines, tmp_path: Path) -> Location:
    grid.fill()
    return tmp_path / "place" if request.param == "folder" else Url(f"s3://bucket/{uuid4().hex}")


class Job:
    """Photos, and their results on one machine, to which those of the cluster must be equal."""

    def __init__(self, root: Location, near: Path, count: int, seconds: float) -> None:
        self.height = next(HEIGHTS)
        self.recipe = RECIPE.model_copy(update={"version": f"seconds_{seconds}"})
        self.photos, self.out, self._near = root / "photos", root / "out", near
        for number in range(count):
            self.add(f"{number % 2}/{number:03}.jpg", 20 + number)

    def add(self, name: str, width: int) -> None:
        """Add a photo, known by its width."""
        save_photo(self._near / "local" / name, width, (self.height, width))

    def spoil(self, name: str) -> None:
        """Add a file that is no photo."""
        (self._near / "local" / name).write_bytes(b"no photo")

    def expected(self) -> dict[str, bytes]:
        """The results of one machine, of photos that kill nobody; their tries do not count."""
        out = self._near / "expected"
        listing = [s for s in list_images([self._near / "local"]) if "poison" not in s.name]
        console = Console(file=io.StringIO())
        label(lambda: listing, out, self.recipe, build=clusters.build, preview=False,
              console=console)  # fmt: skip
        forget(self.height)
        return results(out)

    def place(self) -> None:
        """Bring the photos to where the cluster finds them."""
        if isinstance(self.photos, Path):
            self.photos.parent.mkdir(exist_ok=True)
            self.photos.symlink_to(self._near / "local")
            return
        bucket = ObjectStore(self.photos)
        for path in (self._near / "local").rglob("*.jpg"):
            name = path.relative_to(self._near / "local").as_posix()
            bucket.write(name, [path.read_bytes()])

    def run(self, cluster: Cluster = CLUSTER) -> Summary:
        """Do it on the cluster."""
        return submit(self.photos, self.out, self.recipe, cluster)

    def done(self) -> int:
        """How many results there are."""
        return len(_names(self.out))


def submit(photos: Location, out: Location, recipe: Recipe, cluster: Cluster = CLUSTER) -> Summary:
    return label(
        partial(list_images, [photos], out),
        out,
        recipe,
        build=clusters.build,
        preview=False,
        console=Console(file=io.StringIO()),
        limits=Limits(max_seconds=cluster.time_limit),
        executor=cluster.run,
    )


def results(out: Location) -> dict[str, bytes]:
    """Every result by its name, but for its timing; each is whole."""
    found = {}
    for name in _names(out):
        content = folder_at(out).read(f"annotations/{name}") or b""
        assert read_document(content), name
        found[name] = content.split(b',"timing":')[0]
    return found


def _names(out: Location) -> list[str]:
    if isinstance(out, Url):
        return [name for name, _ in ObjectStore(out).walk("annotations")]
    home = out / "annotations"
    return [path.relative_to(home).as_posix() for path in home.rglob("*.json")]


def rows(out: Location) -> pa.Table:
    return Manifest(folder_at(out)).table()


def leftovers(out: Location) -> list[str]:
    """Notes and half-written files."""
    if isinstance(out, Url):
        return [name for name, _ in ObjectStore(out).walk("attempts")]
    folders = [out / ".partial", out / "attempts"]
    return [str(path) for folder in folders for path in folder.rglob("*")]


def when(ready: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something to the cluster as soon as a job is so far."""

    def wait() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if ready():
                act()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def check(job: Job, expected: dict[str, bytes], quarantined: int = 0) -> None:
    """Outputs are inputs without those that were given up; nothing is lost, double or half."""
    assert results(job.out) == expected
    assert leftovers(job.out) == []
    table = rows(job.out)
    names = table["name"].to_pylist()
    assert len(names) == len(set(names)) == len(expected) + quarantined
    statuses = table["status"].to_pylist()
    assert (statuses.count("done"), statuses.count("failed")) == (len(expected), quarantined)


def test_as_on_one_machine(root: Location, tmp_path: Path) -> None:
    job = Job(root, tmp_path, 13, 0)
    job.add("slow.jpg", SLOW)
    expected = job.expected()
    job.spoil("0/broken.jpg")
    job.place()
    summary = job.run()
    assert (summary.done, summary.failed, summary.exit_code) == (14, 1, 3)
    check(job, expected, 1)
    assert set(tries(job.height).values()) == {1}
    # Nobody waited for the slow one.
    finished = dict(zip(*(rows(job.out)[c].to_pylist() for c in ("name", "finished")), strict=True))
    assert max(finished.values()) == finished["slow.jpg"]
    found = status(job.out)
    assert (found.images, found.done, found.failed, found.state) == (15, 14, 1, "ended")
    # Again: only what failed is tried.
    again = job.run()
    assert (again.skipped, again.done, again.failed) == (14, 0, 1)
    assert set(tries(job.height).values()) == {1}


def test_a_machine_is_lost(root: Location, grid: Machines, tmp_path: Path) -> None:
    job = Job(root, tmp_path, 24, 0.3)
    expected = job.expected()
    job.place()
    thread = when(lambda: job.done() >= 6, grid.lose)
    summary = job.run()
    thread.join()
    assert (summary.done, summary.failed) == (24, 0)
    check(job, expected)
    assert sum(tries(job.height).values()) <= 24 + 3


def test_workers_are_killed_and_a_photo_kills_them(root: Location, tmp_path: Path) -> None:
    job = Job(root, tmp_path, 18, 0.2)
    expected = job.expected()
    job.add("1/poison.jpg", POISON)
    job.place()

    thread = when(lambda: sum(tries(job.height).values()) >= 4, partial(kill_one, job.height))
    summary = job.run()
    thread.join()
    assert (summary.done, summary.failed, summary.exit_code) == (18, 1, 3)
    check(job, expected, 1)
    begun = tries(job.height)
    assert begun.pop(POISON) <= 3
    # At most three photos were in hand at each of the deaths of a worker of Ray's.
    assert sum(begun.values()) <= 18 + 2 * 3
    (failure,) = summary.failures
    assert "1/poison.jpg" in failure
    assert "try it alone" in failure


def test_a_photo_that_hangs_costs_its_worker_and_then_itself_only(
    root: Location, tmp_path: Path
) -> None:
    job = Job(root, tmp_path, 8, 0)
    expected = job.expected()
    job.add("1/poison.jpg", HANGS)
    job.place()
    summary = job.run(replace(CLUSTER, time_limit=5))
    assert (summary.done, summary.failed, summary.exit_code) == (8, 1, 3)
    check(job, expected, 1)
    (failure,) = summary.failures
    assert "1/poison.jpg: over the time limit of 5 s (its process hung and was killed)" in failure
    assert tries(job.height).pop(HANGS) == 2  # in a block, and alone


def test_workers_die_while_they_load(grid: Machines, tmp_path: Path) -> None:
    """One is killed, and a machine is lost with one."""
    grid.fill()
    job = Job(tmp_path / "place", tmp_path, 12, 0.1)
    job.recipe = job.recipe.model_copy(update={"variant": HEAVY})
    expected = job.expected()
    forget(0)
    job.place()
    threads = [
        when(lambda: len(processes(0)) >= 1, partial(kill_one, 0)),
        when(lambda: len(processes(0)) >= 2, grid.lose),
    ]
    summary = job.run()
    for thread in threads:
        thread.join()
    assert (summary.done, summary.failed) == (12, 0)
    check(job, expected)


def kill_one(height: int) -> None:
    """Kill the process that has begun a photo last, in the middle of it."""
    with suppress(ProcessLookupError):
        os.kill(processes(height)[0], signal.SIGKILL)


JOB = """
import sys
from tests.batch_jobs.test_cluster import submit, located, RECIPE
photos, out, version = sys.argv[1:]
recipe = RECIPE.model_copy(update={"version": version})
submit(located(photos), located(out), recipe)
"""


def killed_driver(job: Job, address: str, results: int) -> None:
    """Run a job in a process of its own, and kill that as soon as so many results are there."""
    arguments = [str(job.photos), str(job.out), job.recipe.version]
    environment = dict(os.environ) | {"RAY_ADDRESS": address}
    with subprocess.Popen([sys.executable, "-c", JOB, *arguments], env=environment) as driver:
        thread = when(lambda: job.done() >= results, driver.kill)
        driver.wait(300)
        thread.join()
    assert driver.returncode == -signal.SIGKILL


def test_the_driver_is_killed_and_the_job_submitted_again(
    root: Location, grid: Machines, tmp_path: Path
) -> None:
    job = Job(root, tmp_path, 16, 0.4)
    expected = job.expected()
    job.place()
    killed_driver(job, grid.address, 4)
    assert status(job.out).state == "running, or killed"
    before, done = sum(tries(job.height).values()), job.done()
    assert 4 <= done < 16
    summary = job.run()
    assert summary.skipped >= done
    assert summary.done + summary.skipped == 16
    check(job, expected)
    assert sum(tries(job.height).values()) - before == summary.done


def test_all_of_it_at_once(grid: Machines, tmp_path: Path) -> None:
    """The driver is killed; in the next job a machine is lost and workers are killed."""
    grid.fill()
    job = Job(Url(f"s3://bucket/{uuid4().hex}"), tmp_path, 24, 0.3)
    expected = job.expected()
    job.add("0/poison.jpg", POISON)
    job.place()
    killed_driver(job, grid.address, 4)
    threads = [
        when(lambda: job.done() >= 10, grid.lose),
        when(lambda: job.done() >= 14, partial(kill_one, job.height)),
    ]
    summary = job.run()
    for thread in threads:
        thread.join()
    assert summary.done + summary.skipped == 24
    assert (summary.failed, summary.exit_code) == (1, 3)
    check(job, expected, 1)
    assert tries(job.height).pop(POISON) <= 3 + 3
    # What was in hand at the deaths of the driver's three workers, of a machine's, and of two more.
    assert sum(tries(job.height).values()) <= 24 + 6 + 6 * 3


def test_several_workers_share_a_gpu(root: Location, tmp_path: Path) -> None:
    """Ray counts GPUs that are not there, and hands them out as it does real ones."""
    job = Job(root, tmp_path, 24, 0.3)
    expected = job.expected()
    job.place()
    job.run(replace(CLUSTER, cpus=0.25, gpus=0.5, min_workers=5))
    check(job, expected)
    assert len(set(processes(job.height))) >= 4  # on three GPUs


def test_what_stops_every_worker_ends_the_job(grid: Machines, tmp_path: Path) -> None:
    save_photo(tmp_path / "photos/a.jpg")
    listing = partial(list_images, [tmp_path / "photos"])
    options = {"preview": False, "executor": CLUSTER.run, "console": Console(file=io.StringIO())}
    with pytest.raises(WeightsError, match=r"discs\.pth: not found"):
        label(listing, tmp_path / "out", RECIPE, build=build_nothing, **options)
    other = RECIPE.model_copy(update={"version": "other"})
    with pytest.raises(StoreError, match="another recipe"):
        label(listing, tmp_path / "out", other, build=clusters.build, **options)


def test_the_command(grid: Machines, tmp_path: Path) -> None:
    save_photo(tmp_path / "photos/a.jpg")
    command = [
        sys.executable,
        "-m",
        "everything.batch_jobs.annotate",
        "--json",
        "--sampler",
        "grid-16",
    ]
    places = ["--input", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    environment = dict(os.environ) | {"RAY_ADDRESS": grid.address}
    found = subprocess.run([*command, *places], env=environment, capture_output=True, check=True)
    assert json.loads(found.stdout)["done"] == 1
    assert status(located(str(tmp_path / "out"))).done == 1
