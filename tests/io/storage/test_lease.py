"""Two jobs on one bucket, and what becomes of the lease of one that died."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from everything.config import Output, Recipe
from everything.core.geometry import View
from everything.errors import StoreError
from everything.io.images.sources import list_inputs
from everything.io.storage import lease
from everything.io.storage.locations import Location, Url, filesystem
from everything.io.storage.object_store import ObjectStore
from everything.jobs.label import label
from everything.jobs.status import status
from everything.jobs.summary import Summary
from everything.pipeline.pipeline import Pipeline
from tests.fakes import RECIPE, Discs, build, save_photo
from tests.io.storage.test_object_store import results
from tests.s3 import s3_server

pytestmark = pytest.mark.filterwarnings(
    # botocore 1.43 asks for the time like this.
    "ignore:datetime.datetime.utcnow:DeprecationWarning"
)
OTHER = RECIPE.model_copy(update={"output": Output(label_map=True)})
FILES = {".everything.jsonl", "annotations", "manifest", "errors.jsonl", "recipe.yaml"}
WAITS = 65  # width of a photo
ELSEWHERE = {"job": "another", "host": "far", "pid": 7, "machine": "other", "birth": "1"}
_context = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats are short; what is alive has all the time of a busy machine to show it."""
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "STALE", 200.0)


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    with s3_server():
        files, _ = filesystem(Url("s3://leases"))
        files.mkdir("leases")
        yield


@pytest.fixture
def bucket(s3: None) -> ObjectStore:
    return ObjectStore(Url(f"s3://leases/{uuid4().hex}"))


@pytest.fixture(params=["memory", "s3"])
def root(request: pytest.FixtureRequest) -> Url:
    if request.param == "s3":
        request.getfixturevalue("s3")
    return Url(f"{request.param}://leases/{uuid4().hex}")


def leave(bucket: ObjectStore, **about: object) -> None:
    """Leave a lease there as another job would."""
    bucket.write(".lock", [json.dumps(ELSEWHERE | about).encode()])


def until(ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + 200
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lost(root: Url, lose: Callable[[ObjectStore], None]) -> bool:
    """Whether a heart has noticed that its lease is lost: it may write over that meanwhile."""
    lose(ObjectStore(root))
    time.sleep(2 * lease.BEAT)
    return all(thread.name != "lease" for thread in threading.enumerate())


def test_one_at_a_time(root: Url) -> None:
    bucket, other = ObjectStore(root), ObjectStore(root)
    with bucket.locked():
        written = bucket.read(".lock")
        refused = pytest.raises(StoreError, match=rf"another job .*process {os.getpid()} on .*out")
        with refused, other.locked():
            pass
        until(lambda: bucket.read(".lock") != written)
        bucket.write("a", [b"1"])
        assert list(bucket.names()) == ["a"]
        ObjectStore(root, bucket.permit).write("b", [b"2"])  # as workers do
    assert [name for name, _ in bucket.walk("")] == ["a", "b"]
    assert bucket.permit == ""
    with other.locked():
        pass


def test_many_at_the_same_moment(bucket: ObjectStore) -> None:
    start, end, held = threading.Barrier(4), threading.Barrier(4), []

    def job() -> None:
        mine = ObjectStore(bucket.root)
        start.wait(200)
        try:
            with mine.locked():
                held.append(mine.permit)
                end.wait(200)
                mine.write("a", [b"1"])
        except StoreError as error:
            held.append(str(error))
            end.wait(200)

    threads = [threading.Thread(target=job) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("another job is writing here" in said for said in held) == 3, held


def test_a_lease_that_is_not_renewed_is_taken_over(
    root: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE", 2.0)
    bucket = ObjectStore(root)
    for found in (json.dumps(ELSEWHERE).encode(), b"torn"):
        bucket.write(".lock", [found])
        with bucket.locked():
            bucket.write("a", [b"1"])
    assert bucket.read(".lock") is None


def test_a_lease_that_is_renewed_is_not(root: Url) -> None:
    bucket = ObjectStore(root)
    leave(bucket, beats=1)
    threading.Timer(0.5, lambda: leave(bucket, beats=2)).start()
    with pytest.raises(StoreError, match="process 7 on far"), ObjectStore(root).locked():
        pass
    assert bucket.read(".lock") is not None


@pytest.mark.parametrize("is_reused", [False, True])
def test_the_lease_of_a_dead_process_is_taken_over_at_once(
    is_reused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its number may be that of another process meanwhile, which began at another time."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    bucket = ObjectStore(Url(f"memory://{uuid4().hex}"))
    pid = os.getpid() if is_reused else ended.pid
    leave(bucket, machine=lease._machine(), pid=pid, birth="1")
    with bucket.locked():
        assert f"process {pid} on far, which has died" in caplog.text
        assert "waiting" not in caplog.text


@pytest.mark.parametrize("of_this_machine", [False, True])
def test_what_may_live_has_its_time(
    of_this_machine: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "STALE", 0.5)
    bucket, pid = ObjectStore(Url(f"memory://{uuid4().hex}")), os.getpid()
    if of_this_machine:
        leave(bucket, machine=lease._machine(), pid=pid, birth=lease._birth(pid))
    else:  # where the number says nothing
        leave(bucket, pid=2**22 + 1)
    with bucket.locked():
        assert "may be writing here: waiting" in caplog.text
        assert "has died" not in caplog.text


def test_a_job_that_ends_meanwhile_lets_the_next_one_in(root: Url) -> None:
    bucket = ObjectStore(root)
    leave(bucket)
    threading.Timer(0.5, lambda: bucket.delete(".lock")).start()
    with ObjectStore(root).locked():
        pass


@pytest.mark.parametrize("lose", [leave, lambda bucket: bucket.delete(".lock")])
def test_who_has_lost_the_lease_writes_nothing_more(
    root: Url, lose: Callable[[ObjectStore], None]
) -> None:
    mine = ObjectStore(root)
    with mine.locked():
        worker = ObjectStore(root, mine.permit)
        for writer in (mine, worker):
            writer.write("a", [b"1"])
        until(partial(lost, root, lose))
        for writer in (mine, worker):
            acts = (
                partial(writer.delete, "a"),
                partial(writer.remove, ["a"]),
                partial(writer.write, "a", [b"2"]),
            )
            for act in acts:
                with pytest.raises(
                    StoreError, match=r"may no longer write there \((process 7|its lease)"
                ):
                    act()
    assert others(mine) == ({"a", ".lock"} if lose is leave else {"a"})
    assert mine.read("a") == b"1"


def test_who_could_not_renew_it_has_lost_it(root: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ObjectStore(root)
    with mine.locked():
        monkeypatch.setattr(lease, "STALE", -1.0)
        with pytest.raises(StoreError, match=r"could not renew"):
            mine.write("a", [b"1"])
        until(lambda: all(thread.name != "lease" for thread in threading.enumerate()))
    assert others(mine) == set()


def test_where_no_conditions_are_kept_the_last_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = ObjectStore(Url(f"memory://{uuid4().hex}"))
    put = type(bucket._files).pipe_file

    def overwrite(files: object, path: str, value: bytes, mode: str = "overwrite") -> None:
        put(files, path, value)

    monkeypatch.setattr(type(bucket._files), "pipe_file", overwrite)
    with bucket.locked():
        bucket.write("a", [b"1"])
    sleep = time.sleep

    def wait(seconds: float) -> None:
        leave(bucket)  # by another one that saw no lease either
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", wait)
    refused = pytest.raises(StoreError, match="process 7 on far")
    with refused, ObjectStore(bucket.root).locked():
        pass


@dataclass(frozen=True)
class Waiting(Discs):
    """A model that does not answer before there is a file."""

    file: Path = Path()

    def encode(self, view: View) -> View:
        if view.size[1] == WAITS:
            self.file.with_suffix(".begun").touch()
            until(self.file.exists)
        return super().encode(view)


def build_waiting(recipe: Recipe) -> Pipeline:
    lease.BEAT = 0.1
    return replace(build(recipe), model=Waiting(file=Path(recipe.version)))


def job(
    root: Url, photos: Path, recipe: Recipe, workers: int, stale: float, pipe: Connection
) -> None:
    """A job in a process of its own, which says how it ended."""
    lease.BEAT, lease.STALE = 0.1, stale
    try:
        summary = label(lambda: list_inputs([photos]), root, recipe, workers=workers,
                        preview=False, build=build_waiting)  # fmt: skip
        pipe.send(summary.done)
    except StoreError as error:
        pipe.send(str(error))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(6):
        save_photo(tmp_path / f"photos/{number}.jpg", number)
    save_photo(tmp_path / "photos/4-waits.jpg", size=(48, WAITS))
    return tmp_path / "photos"


class Job:
    """One in another process that has come to the photo that it waits in, until let go."""

    def __init__(
        self, bucket: ObjectStore, photos: Path, workers: int = 1, stale: float = 200.0
    ) -> None:
        self.file = photos.parent / "go"
        self.recipe = RECIPE.model_copy(update={"version": str(self.file)})
        _context.set_forkserver_preload(["everything.jobs.annotator", "tests.fakes"])
        self._pipe, there = _context.Pipe()
        arguments = (bucket.root, photos, self.recipe, workers, stale, there)
        self.process = _context.Process(target=job, args=arguments)
        self.process.start()
        there.close()
        until(self.file.with_suffix(".begun").exists)
        # And no write of what it did before is under way, whose end nobody could say.
        until(lambda: len(results(bucket.root)) >= 4)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def end(self) -> int | str:
        """Let it go, and return what became of it."""
        self.file.touch()
        assert self._pipe.poll(200)
        said: int | str = self._pipe.recv()
        self.process.join()
        return said


def do(photos: Path, out: Location, recipe: Recipe, **options: Any) -> Summary:
    listing = partial(list_inputs, [photos])
    return label(listing, out, recipe, preview=False, **({"build": build} | options))


def undisturbed(photos: Path, recipe: Recipe) -> dict[str, bytes]:
    do(photos, photos.parent / "out", recipe)
    return results(photos.parent / "out")


def others(bucket: ObjectStore) -> set[str]:
    return {name.partition("/")[0] for name, _ in bucket.walk("")}


def test_a_second_job_is_refused_and_the_first_one_does_not_notice(
    bucket: ObjectStore, photos: Path
) -> None:
    first = Job(bucket, photos)
    for recipe, overwrite in ((first.recipe, False), (OTHER, True), (OTHER, False)):
        with pytest.raises(StoreError, match=f"process {first.process.pid} on"):
            do(photos, bucket.root, recipe, overwrite=overwrite)
    assert status(bucket.root).state == "running, or killed"
    assert first.end() == 7
    assert results(bucket.root) == undisturbed(photos, first.recipe)
    assert others(bucket) == FILES


def test_a_killed_job_is_continued_at_once(
    bucket: ObjectStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Job(bucket, photos)
    first.process.kill()
    first.process.join()
    monkeypatch.setattr(lease, "STALE", 1e6)
    done = len(results(bucket.root))
    summary = do(photos, bucket.root, first.recipe)
    assert (summary.skipped, summary.done) == (done, 7 - done)
    assert results(bucket.root) == undisturbed(photos, first.recipe)
    assert ".lock" not in others(bucket)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_suspended_job_finds_that_another_one_has_taken_over(
    bucket: ObjectStore, photos: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Job(bucket, photos, workers, stale=6.0)
    first.signal(signal.SIGSTOP)
    monkeypatch.setattr(lease, "STALE", 7.0)
    assert do(photos, bucket.root, OTHER, overwrite=True).done == 7
    # Its worker, which was not suspended, has a result of its recipe now, and must not write it.
    first.file.touch()
    first.signal(signal.SIGCONT)
    assert "may no longer write there" in str(first.end())
    assert results(bucket.root) == undisturbed(photos, OTHER)
    assert ".lock" not in others(bucket)


def test_a_job_in_memory(photos: Path) -> None:
    root = Url(f"memory://{uuid4().hex}")
    assert do(photos, root, RECIPE).done == 7
    assert others(ObjectStore(root)) == FILES
