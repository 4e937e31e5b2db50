"""Several processes that annotate photos, and what to do when one of them dies.

A process can die of one photo (a decoder's crash, memory). Its other photos must not suffer, and
the one at fault must not be tried for ever: photos that were in a process that died are tried
again, each alone in its process, and given up after RETRIES more crashes.

A time limit for photos is kept by the processes themselves (everything/core/stage_timer.py),
between steps. One that hangs within a step, in code that no thread can be stopped in, is ended
from here.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from everything.errors import EverythingError, JobError
from everything.io.results.manifest import Row
from everything.jobs.annotator import Annotator, Task, lost, overtime, run

RETRIES = 2
ALONE = "try it alone, or leave it out"
_LOOK, _LATE = 1.0, 30.0  # s
_SOON = 0.05  # s
_log = logging.getLogger(__name__)
# Not fork: torch and the threads of this process do not survive it. A server that has imported
# torch, and done nothing else, makes a process in no time where spawn takes seconds.
_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Ready:
    """A process has its model, which sees `together` photos at once."""

    together: int


@dataclass(frozen=True)
class Stopped:
    """A process can do nothing more, for a reason that holds for all of them."""

    error: EverythingError


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    ready: bool = False
    in_hand: int = 0  # how many photos it may have
    tasks: deque[Task] = field(default_factory=deque)
    heard: float = 0.0  # when it last gave a row or began to have tasks, by the monotonic clock

    @property
    def takes_more(self) -> bool:
        return (
            self.ready
            and len(self.tasks) < self.in_hand
            and not any(task.crashes for task in self.tasks)
        )


def run_in_processes(
    build: Callable[[], Annotator],
    digest: str,
    tasks: Iterator[Task],
    emit: Callable[[Row], None],
    count: int,
    threads: int,
    limit: float | None = None,
) -> None:
    """Do all tasks in `count` processes; rows come in any order.

    build: called once in each process, so it is pickled. emit: called here. threads: of torch in
    each process. limit: seconds for a photo. Raises JobError or what stopped a process, such as
    StoreError; no process is left behind.
    """
    _context.set_forkserver_preload(["everything.jobs.annotator"])
    pool = _Pool(build, threads, digest, tasks, emit, limit)
    try:
        pool.run(count)
    finally:
        pool.stop()


class _Pool:
    def __init__(
        self,
        build: Callable[[], Annotator],
        threads: int,
        digest: str,
        tasks: Iterator[Task],
        emit: Callable[[Row], None],
        limit: float | None,
    ) -> None:
        self._build, self._threads, self._digest = build, threads, digest
        self._limit = limit
        self._tasks, self._emit = tasks, emit
        self._suspects: deque[Task] = deque()
        self._workers: list[_Worker] = []
        self._exhausted = False
        self._loads = False  # what one has done, another one's death does not call into question
        self._unready = 0  # that died in a row before they were

    def run(self, count: int) -> None:
        for _ in range(count):
            self._start()
        while True:
            for worker in self._workers:
                self._feed(worker)
            if self._exhausted and not self._suspects and not self._busy():
                return
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(pipes), None if self._limit is None else _LOOK):
                assert isinstance(pipe, Connection)
                self._hear(pipes[pipe])
            for worker in list(filter(self._hangs, self._workers)):
                self._end(worker)

    def stop(self) -> None:
        """End all processes: idle ones by themselves, others at once; results are whole anyway."""
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
        here, there = _context.Pipe()
        arguments = (there, self._build, self._threads)
        self._workers.append(_Worker(_started(arguments), here))
        there.close()  # so that the end of the process is the end of the pipe

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
                worker.heard = time.monotonic()
            worker.tasks.append(task)
            _send(worker, task)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        match message:
            case Ready(together=together):
                worker.ready = self._loads = True
                worker.in_hand = 2 * together + 1  # being read, with the model, being written
                self._unready = 0
            case Stopped(error=error):
                raise error
            case Row():
                done = next(t for t in worker.tasks if t.source.name == message.name)
                worker.tasks.remove(done)
                self._emit(message)
                worker.heard = time.monotonic()

    def _bury(self, worker: _Worker) -> None:
        self._remove(worker)
        how = _how_it_died(worker.process.exitcode)
        if not worker.ready:
            self._unready += 1
            if self._unready > (RETRIES if self._loads else 0):
                reason = f"a worker process {how} while it loaded the model"
                raise JobError(f"{reason}: use fewer --workers")
        _log.warning("a worker process %s; its photos are tried again", how)
        for task in worker.tasks:
            if task.crashes == RETRIES:
                reason = f"its process {how}, and so did {RETRIES} before it: {ALONE}"
                self._emit(lost(task, self._digest, reason))
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
        return time.monotonic() - worker.heard > patience(self._limit)

    def _end(self, worker: _Worker) -> None:
        """End a process that hangs. If it had one photo, that is at fault; of several it cannot be
        told which, since what hangs may keep others from being reported: each is tried alone."""
        worker.process.kill()
        self._remove(worker)
        _log.warning("a worker process hung and was ended")
        if len(worker.tasks) == 1:
            reason = overtime(self._limit, "its process hung and was ended")
            self._emit(lost(worker.tasks[0], self._digest, reason))
        else:
            self._suspects.extend(map(_once_more, worker.tasks))
        self._start()


def patience(limit: float) -> float:
    """Return after how many seconds without a row a process hangs, where photos have `limit`: it
    may be late, in a long step or in writing to a bucket that has a bad minute."""
    return 2 * limit + _LATE


def _started(arguments: tuple[object, ...]) -> ForkServerProcess:
    """Start a process; if the server that makes them dies meanwhile, another one takes over."""
    for _ in range(RETRIES + 1):
        process = _context.Process(target=_work, args=arguments, daemon=True)
        try:
            process.start()
        except (EOFError, ConnectionError):
            time.sleep(_LOOK)  # until its death is known
            continue
        return process
    raise JobError("worker processes cannot be started, what makes them dies: use fewer --workers")


def _once_more(task: Task) -> Task:
    return replace(task, attempt=task.attempt + 1, crashes=task.crashes + 1)


def _send(worker: _Worker, task: Task | None) -> None:
    with suppress(OSError):  # it has died: the end of its pipe says so next
        worker.pipe.send(task)


def _how_it_died(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"was killed ({name})" + (", perhaps out of memory" if name == "SIGKILL" else "")


def _work(pipe: Connection, build: Callable[[], Annotator], threads: int) -> None:
    """What a process does: it ends with its tasks, with an error, or with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    try:
        annotator = build()
        pipe.send(Ready(annotator.together))
        run(annotator, _arriving(pipe), pipe.send)
    except EverythingError as error:
        pipe.send(Stopped(error))


def _arriving(pipe: Connection) -> Iterator[Task | None]:
    """The tasks that come, and None where there is none at the moment."""
    while (task := pipe.recv()) is not None:
        yield task
        if not pipe.poll(_SOON):
            yield None


def _end_with_parent() -> None:
    """A job that is continued must not meet processes of the one before."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
