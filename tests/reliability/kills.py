"""Kill a job at random moments, start it again, and see that nothing came of it.

The job is that of `everything label` but for the model, which is a stand-in, so that hundreds of
starts are affordable (`real`: `ucm`). Of its photos one is broken and one takes a guess to read.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from PIL import Image
from rich.console import Console

from everything.config import Output
from everything.errors import EverythingError
from everything.io.images.sources import list_inputs
from everything.jobs.label import label
from everything.recipes.build import build as build_real
from everything.recipes.resolve import resolve
from tests.fakes import RECIPE
from tests.fakes import build as build_stand_in
from tests.photos import NAMES, photo
from tests.reliability.trees import check_whole, tree

MAPS = Output(label_map=True)
STAND_IN = RECIPE.model_copy(update={"output": MAPS, "version": "seconds_0.005"})
_context = multiprocessing.get_context("forkserver")  # torch is imported once for all jobs
_ORPHANED = 255  # what multiprocessing says of a process whose server has died
_PATIENCE, _TRIES = 300.0, 5  # s: no job takes a tenth of it


@dataclass
class Kills:
    """What happened. what: kills by what was killed. phases: by the step that the job was in, as
    far as its folder tells. results: how many were there at each. gave_up: jobs that ended with one
    line, since none of their processes had yet loaded the model when one was killed. servers: that
    start the processes, and died."""

    what: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    results: list[int] = field(default_factory=list)
    runs: int = 0
    starts: int = 0
    gave_up: int = 0
    servers: int = 0

    def __len__(self) -> int:
        return self.what.total()


@dataclass(frozen=True)
class Life:
    """Of an undisturbed job, seconds: before its first result, for each, and after the last one."""

    start: float
    each: float
    end: float
    results: int

    def moments(self, count: int, rng: random.Random) -> list[float]:
        """Return moments, any of its life alike, as numbers of results: 3.5 is half-way between
        the third and the fourth, negative ones lie before the first."""
        first, last = -self.start / self.each, self.results + self.end / self.each
        return sorted(rng.uniform(first, last) for _ in range(count))


def make_photos(folder: Path, count: int = 60) -> Path:
    """Write `count` small photos, one that is broken and one that takes a guess."""
    for number in range(count):
        place = folder / f"{number % 3}/{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = photo(NAMES[number % len(NAMES)], 40 + number)
        Image.fromarray(pixels).save(place)
    (folder / "0/broken.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("RGBA", (30, 20), (200, 90, 40, 128)).save(folder / "1/noted.png")
    return folder


def job(photos: Path, out: Path, workers: int, real: bool = False) -> None:
    """What is killed: everything that it starts is in its group."""
    os.setpgid(0, 0)
    log = os.open(out.parent / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 2)
    faulthandler.enable()
    try:
        sys.exit(undisturbed(photos, out, workers, real))
    except EverythingError as error:
        sys.exit(f"everything: {error}")  # as the command does it: code 1


def undisturbed(photos: Path, out: Path, workers: int = 1, real: bool = False) -> int:
    """Run the job to its end and return its exit code."""
    listing = partial(list_inputs, [photos], out)
    recipe, build = STAND_IN, build_stand_in
    if real:
        recipe = resolve("ucm", sampler="all-instance", sets=["output.label_map=true"])
        build = build_real
    quiet = Console(file=StringIO())
    summary = label(
        listing, out, recipe, workers=workers, preview=False, console=quiet, build=build
    )
    return summary.exit_code


def torment(
    photos: Path,
    out: Path,
    workers: int,
    rng: random.Random,
    life: Life,
    kills: Kills,
    most: int,
    real: bool = False,
) -> None:
    """Run the job, killed `most` times at most, until it ends; check the folder after each kill.

    With workers every other kill is of one process that the job has started, after which it must
    go on by itself.
    """
    kills.runs += 1
    moments = life.moments(most, rng)
    while True:
        if moments and _results(out) > max(0.0, moments[0]):  # it has passed: then at the start
            moments[0] = -rng.uniform(0, life.start / life.each)
        process = _started(photos, out, workers, real)
        began = time.monotonic()
        kills.starts += 1
        while moments and _lives_until(moments[0], process, began, life, out):
            moments.pop(0)
            if workers == 1 or len(moments) % 2 or not _kill_one(process, rng, out, kills):
                _kill_job(process, rng, out, kills)
                break
        code = _ended(process, out)
        check_whole(out)
        if code == _ORPHANED:
            kills.servers += 1
        elif code == 1 and workers > 1:
            log = (out.parent / "log").read_text()
            assert log.splitlines()[-1].startswith("everything: a worker process was killed"), log
            kills.gave_up += 1
        elif code != -signal.SIGKILL:
            assert code == 3, (code, (out.parent / "log").read_text())
            return


def _started(photos: Path, out: Path, workers: int, real: bool) -> ForkServerProcess:
    """Start a job; a server of processes that has died is replaced by the next try."""
    for _ in range(_TRIES):
        process = _context.Process(target=job, args=[photos, out, workers, real])
        with suppress(EOFError, ConnectionError):
            process.start()
            return process
        time.sleep(1)
    raise AssertionError("no process can be started: what starts them dies")


def _lives_until(
    moment: float, process: ForkServerProcess, began: float, life: Life, out: Path
) -> bool:
    """Wait for a moment of the job's life, and say whether it has come to it."""
    if moment < 0:
        process.join(max(0.0, began + life.start + moment * life.each - time.monotonic()))
        return process.exitcode is None
    whole = min(int(moment), life.results)
    while _results(out) < whole:
        if process.exitcode is not None:
            return False
        assert time.monotonic() < began + _PATIENCE, _stuck(process)
        time.sleep(0.001)
    process.join(life.each * (moment - whole))
    return process.exitcode is None


def _results(out: Path) -> int:
    return sum(1 for _ in (out / "annotations").rglob("*.json"))


def _ended(process: ForkServerProcess, out: Path) -> int:
    """Wait for the end of a job and of its processes, and return its code."""
    process.join(_PATIENCE)
    code, leader = process.exitcode, process.pid or 0
    assert code is not None, _stuck(process)
    if code == _ORPHANED:
        _kill_all(leader)  # nobody can tell what becomes of it
    deadline = time.monotonic() + _PATIENCE
    while list(_group(leader)):
        assert time.monotonic() < deadline, "processes outlive their job"
        time.sleep(0.01)
    return code


def _stuck(process: ForkServerProcess) -> str:
    """End a job that hangs, and say where it did: its log has the stacks of its threads."""
    for pid in _group(process.pid or 0):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGABRT)
    process.join(10)
    _kill_all(process.pid or 0)
    return f"a job of {_PATIENCE:.0f} s hangs: its log says where"


def _kill_all(leader: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not have a group of its own yet, or be gone
        with suppress(ProcessLookupError):
            kill(leader, signal.SIGKILL)


def _kill_job(process: ForkServerProcess, rng: random.Random, out: Path, kills: Kills) -> None:
    """Kill all processes of the job, or its first one alone, after which the others must end."""
    _note(out, kills)
    if rng.random() < 0.5:
        _kill_all(process.pid or 0)
        kills.what["all processes of a job"] += 1
    else:
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGKILL)
        kills.what["the first process of a job, alone"] += 1


def _kill_one(process: ForkServerProcess, rng: random.Random, out: Path, kills: Kills) -> int:
    """Kill one process of the job's group, if there is one besides the job itself."""
    members = [pid for pid in _group(process.pid or 0) if pid != process.pid]
    if not members:
        return 0
    _note(out, kills)
    with suppress(ProcessLookupError):
        os.kill(rng.choice(members), signal.SIGKILL)
    kills.what["one process that it had started"] += 1
    return 1


def _group(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == leader:
                    yield int(entry.name)


def _note(out: Path, kills: Kills) -> None:
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    kills.results.append(_results(out))
    if "recipe.yaml" not in there:
        kills.phases["before its first file"] += 1
    elif "ledger.jsonl" in there:
        kills.phases["among the photos"] += 1
    else:
        kills.phases["around the manifest: at its start or end"] += 1


def check_equal(out: Path, expected: Path) -> None:
    """Check that a tormented folder is as an undisturbed one."""
    assert tree(out) == tree(expected)


def life_of(photos: Path, out: Path, workers: int, real: bool = False) -> Life:
    """Run the job where nothing disturbs it, and return how long its parts took."""
    process, began = _started(photos, out, workers, real), time.monotonic()
    first = last = began
    count = 0
    while process.exitcode is None:
        assert time.monotonic() < began + _PATIENCE, _stuck(process)
        if (now := _results(out)) > count:
            last, count = time.monotonic(), now
            first = last if first == began else first
        time.sleep(0.001)
    assert _ended(process, out) == 3, (out.parent / "log").read_text()
    each = (last - first) / max(1, count - 1)
    return Life(first - began, each, time.monotonic() - last, count)


def prepare() -> None:
    """Have all that a job imports imported once; before the first process is started."""
    _context.set_forkserver_preload(
        [__name__, "samplers", "everything.variants.networks.ucm", "pandas"]
    )
