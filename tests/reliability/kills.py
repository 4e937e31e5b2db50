"""Kill a job at random moments, start it again, and see that nothing came of it.

The job is that of `everything label` but for the model, which is a stand-in, so that hundreds of
starts are affordable (`real`: `ucm`). Of its photos one is broken and one takes a guess to read.
"""

from __future__ import annotations

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
from everything.inputs import list_inputs
from everything.label import label
from everything.loading import build as build_real
from everything.loading import resolve
from tests.fakes import RECIPE
from tests.fakes import build as build_stand_in
from tests.photos import NAMES, photo
from tests.reliability.trees import check_whole, tree

MAPS = Output(label_map=True)
STAND_IN = RECIPE.model_copy(update={"output": MAPS, "version": "seconds_0.005"})
_context = multiprocessing.get_context("forkserver")  # torch is imported once for all jobs


@dataclass
class Kills:
    """What happened. what: kills by what was killed. phases: by the step that the job was in, as
    far as its folder tells. results: how many were there at each. gave_up: jobs that ended with one
    line, since none of their processes had yet loaded the model when one was killed."""

    what: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    results: list[int] = field(default_factory=list)
    runs: int = 0
    starts: int = 0
    gave_up: int = 0

    def __len__(self) -> int:
        return self.what.total()


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
    life: float,
    kills: Kills,
    most: int,
    real: bool = False,
) -> None:
    """Run the job, killed `most` times at most, until it ends; check the folder after each kill.

    life: of an undisturbed process, seconds; one is killed at any moment of it, if it has not ended
    before. With workers every other
    kill is of one process that the job has started, after which it must go on by itself.
    """
    kills.runs += 1
    left = most
    while True:
        process = _context.Process(target=job, args=[photos, out, workers, real])
        process.start()
        kills.starts += 1
        if left:
            process.join(rng.uniform(0, 1.2 * life))
        if left and workers > 1 and left % 2 and process.exitcode is None:
            left -= _kill_one(process, rng, out, kills)
            process.join(rng.uniform(0, 1.2 * life))
        if left and process.exitcode is None:
            left -= 1
            _kill_job(process, rng, workers, out, kills)
            check_whole(out)
            continue
        process.join()
        if process.exitcode == 1 and workers > 1:
            log = (out.parent / "log").read_text()
            assert log.splitlines()[-1].startswith("everything: a worker process was killed"), log
            kills.gave_up += 1
            continue
        assert process.exitcode == 3, (out.parent / "log").read_text()
        return


def _kill_job(
    process: ForkServerProcess, rng: random.Random, workers: int, out: Path, kills: Kills
) -> None:
    """Kill all processes of the job, or its first one alone, after which the others must end."""
    _note(out, kills)
    leader = process.pid or 0
    if workers == 1 or rng.random() < 0.5:
        for kill in (os.killpg, os.kill):  # it may not have a group of its own yet, or be gone
            with suppress(ProcessLookupError):
                kill(leader, signal.SIGKILL)
        kills.what[f"a job of {workers} worker{'s' * (workers > 1)}, all of it"] += 1
    else:
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGKILL)
        kills.what["the first process of a job, alone"] += 1
    process.join()
    deadline = time.monotonic() + 30
    while list(_group(leader)):
        assert time.monotonic() < deadline, "processes outlive their job"
        time.sleep(0.01)


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
    count = sum(1 for _ in (out / "annotations").rglob("*.json"))
    kills.results.append(count)
    if "recipe.yaml" not in there:
        kills.phases["before its first file"] += 1
    elif "ledger.jsonl" in there:
        kills.phases["among the photos"] += 1
    else:
        kills.phases["around the manifest: at its start or end"] += 1


def check_equal(out: Path, expected: Path) -> None:
    """Check that a tormented folder is as an undisturbed one."""
    assert tree(out) == tree(expected)


def life_of(photos: Path, out: Path, workers: int, real: bool = False) -> float:
    """Seconds that a process of the job lives where nothing disturbs it."""
    began = time.monotonic()
    process = _context.Process(target=job, args=[photos, out, workers, real])
    process.start()
    process.join()
    assert process.exitcode == 3
    return time.monotonic() - began


def prepare() -> None:
    """Have all that a job imports imported once; before the first process is started."""
    _context.set_forkserver_preload([__name__, "samplers", "everything.variants.ucm", "pandas"])
