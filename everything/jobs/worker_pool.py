"""A pool of worker processes that annotate images, and survives their crashes.

One image can crash its worker (a decoder's bug, memory). The other images of that worker must not
suffer, and the one at fault must not be retried for ever: all images of a worker that crashed are
retried, each alone in a worker, and given up after RETRIES more crashes.

Workers enforce the time limit per image themselves, between steps (everything/core/stage_timer.py).
A worker that hangs within a step, in native code that no thread can interrupt, is killed from here.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from types import ModuleType

from everything.errors import EverythingError, JobError
from everything.io.results.manifest_rows import Row
from everything.jobs.annotator import Annotator, Task, row_of_crash, run, timeout_reason

RETRIES = 2
WAY_OUT = "try it alone, or leave it out"
_POLL, _LATE = 1.0, 30.0  # s
_SOON = 0.05  # s
_log = logging.getLogger(__name__)
# Not fork: torch and this process's threads do not survive it. A fork server that has imported
# torch, and nothing else, starts a process at once, where spawn takes seconds.
_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its model; `batch_size` images are encoded at a time."""

    batch_size: int


@dataclass(frozen=True)
class Stopped:
    """A worker has stopped with an error that every worker would meet."""

    error: EverythingError


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    build: int  # which of the ways to make an annotator it has
    ready: bool = False
    capacity: int = 0  # how many images it may have
    tasks: deque[Task] = field(default_factory=deque)
    active: float = 0.0  # monotonic time of its last row, or of its first task

    @property
    def takes_more(self) -> bool:
        return (
            self.ready
            and len(self.tasks) < self.capacity
            and not any(task.crashes for task in self.tasks)
        )


def run_in_processes(
    builds: Sequence[Callable[[], Annotator]],
    digest: str,
    tasks: Iterator[Task],
    emit: Callable[[Row], None],
    count: int,
    threads: int,
    limit: float | None = None,
) -> None:
    """Run all tasks in worker processes; no process is left behind.

    Args:
        builds: each makes an annotator, on a device of its own; pickled, and one called once in
            each worker, so that all are in use equally.
        digest: of the recipe, for the rows of images that crash their worker.
        tasks: the images to annotate.
        emit: called in this process with each row, in any order.
        count: number of workers, at most; no more are started than there are tasks.
        threads: PyTorch threads of each worker.
        limit: seconds per image.

    Raises:
        JobError: if workers crash while they load the model, or cannot be started.
        EverythingError: what stopped a worker, such as StoreError.
    """
    _context.set_forkserver_preload(["everything.jobs.annotator"])
    pool = _Pool(builds, threads, digest, tasks, emit, limit)
    try:
        pool.run(count)
    finally:
        pool.stop()


class _Pool:
    def __init__(
        self,
        builds: Sequence[Callable[[], Annotator]],
        threads: int,
        digest: str,
        tasks: Iterator[Task],
        emit: Callable[[Row], None],
        limit: float | None,
    ) -> None:
        self._builds, self._threads, self._digest = builds, threads, digest
        self._limit = limit
        self._tasks, self._emit = tasks, emit
        self._suspects: deque[Task] = deque()
        self._workers: list[_Worker] = []
        self._exhausted = False
        self._loads = False  # whether any worker has loaded its model
        self._unready = 0  # crashes in a row while loading

    def run(self, count: int) -> None:
        first = list(islice(self._tasks, count))
        self._tasks = chain(first, self._tasks)
        for _ in first:
            self._start()
        while True:
            for worker in self._workers:
                self._feed(worker)
            if self._exhausted and not self._suspects and not self._busy():
                return
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(pipes), None if self._limit is None else _POLL):
                assert isinstance(pipe, Connection)
                self._receive(pipes[pipe])
            for worker in list(filter(self._hangs, self._workers)):
                self._kill_hung(worker)

    def stop(self) -> None:
        """Let idle workers exit and terminate the others; results are written atomically."""
        for worker in self._workers:
            if self._exhausted and not worker.tasks:
                _send(worker, None)
            else:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(10)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()

    def _busy(self) -> bool:
        return any(worker.tasks for worker in self._workers)

    def _start(self) -> None:
        parent_end, worker_end = _context.Pipe()
        used = Counter(worker.build for worker in self._workers)
        build = min(range(len(self._builds)), key=lambda number: used[number])
        arguments = (worker_end, self._builds[build], self._threads)
        self._workers.append(_Worker(_started(arguments), parent_end, build))
        worker_end.close()  # so that the pipe closes when the worker ends

    def _feed(self, worker: _Worker) -> None:
        while worker.takes_more:
            if self._suspects and not worker.tasks:
                task = self._suspects.popleft()
            elif (following := next(self._tasks, None)) is not None:
                task = following
            else:
                self._exhausted = True
                return
            if not worker.tasks:
                worker.active = time.monotonic()
            worker.tasks.append(task)
            _send(worker, task)

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._handle_crash(worker)
            return
        match message:
            case Ready(batch_size=batch_size):
                worker.ready = self._loads = True
                worker.capacity = 2 * batch_size + 1  # being read, segmented and written
                self._unready = 0
            case Stopped(error=error):
                raise error
            case Row():
                done = next(t for t in worker.tasks if t.source.name == message.name)
                worker.tasks.remove(done)
                self._emit(message)
                worker.active = time.monotonic()

    def _handle_crash(self, worker: _Worker) -> None:
        self._remove(worker)
        how = _cause_of(worker.process.exitcode)
        if not worker.ready:
            self._unready += 1
            if self._unready > (RETRIES if self._loads else 0):
                reason = f"a worker process {how} while it loaded the model"
                raise JobError(f"{reason}: use fewer --workers")
        _log.warning("a worker process %s; its images are retried", how)
        for task in worker.tasks:
            if task.crashes == RETRIES:
                reason = f"its process {how}, and so did {RETRIES} before it: {WAY_OUT}"
                self._emit(row_of_crash(task, self._digest, reason))
            else:
                self._suspects.append(_once_more(task))
        self._start()

    def _remove(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)

    def _hangs(self, worker: _Worker) -> bool:
        if self._limit is None or not worker.tasks or worker.pipe.poll():
            return False
        return time.monotonic() - worker.active > hang_timeout(self._limit)

    def _kill_hung(self, worker: _Worker) -> None:
        """Kill a worker that hangs. If it had one image, that one fails. Of several, any may be the
        cause, since a hang can delay the rows of the others: each is retried alone."""
        worker.process.kill()
        self._remove(worker)
        _log.warning("a worker process hung and was killed")
        if len(worker.tasks) == 1:
            reason = timeout_reason(self._limit, "its process hung and was killed")
            self._emit(row_of_crash(worker.tasks[0], self._digest, reason))
        else:
            self._suspects.extend(map(_once_more, worker.tasks))
        self._start()


def hang_timeout(limit: float) -> float:
    """Return the seconds without a row after which a worker counts as hung, for a time limit per
    image: more than the limit, for long steps and for transient storage errors."""
    return 2 * limit + _LATE


def _started(arguments: tuple[object, ...]) -> ForkServerProcess:
    """Start a process; if the fork server crashes meanwhile, a new one is started."""
    for _ in range(RETRIES + 1):
        process = _context.Process(target=_work, args=arguments, daemon=True)
        try:
            with _caller_hidden(arguments[1]):
                process.start()
        except (EOFError, ConnectionError):
            time.sleep(_POLL)  # until its crash is noticed
            continue
        return process
    raise JobError(
        "worker processes cannot be started, the fork server crashes: use fewer --workers"
    )


@contextmanager
def _caller_hidden(build: object) -> Iterator[None]:
    """Hide the calling script, which a new process would import first.

    Workers need nothing of it, and it may do its work at its top level, so that the import would
    begin the job again. It stays if `build` is defined in it.
    """
    caller = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        pickle.dumps(build)
    except (AttributeError, TypeError, pickle.PicklingError):
        sys.modules["__main__"] = caller
    try:
        yield
    finally:
        sys.modules["__main__"] = caller


def _once_more(task: Task) -> Task:
    return replace(task, attempt=task.attempt + 1, crashes=task.crashes + 1)


def _send(worker: _Worker, task: Task | None) -> None:
    with suppress(OSError):  # it has crashed, and its pipe is closed
        worker.pipe.send(task)


def _cause_of(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"was killed ({name})" + (", perhaps out of memory" if name == "SIGKILL" else "")


def _work(pipe: Connection, build: Callable[[], Annotator], threads: int) -> None:
    """The main function of a worker; it ends with the tasks, with an error, or with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    try:
        annotator = build()
        pipe.send(Ready(annotator.batch_size))
        run(annotator, _arriving(pipe), pipe.send)
    except EverythingError as error:
        pipe.send(Stopped(error))


def _arriving(pipe: Connection) -> Iterator[Task | None]:
    """Yield the tasks that arrive, and None when there is none at the moment."""
    while (task := pipe.recv()) is not None:
        yield task
        if not pipe.poll(_SOON):
            yield None


def _end_with_parent() -> None:
    """Exit when the parent does: a resumed job must not meet workers of the previous one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
