"""What runs on the machines of a cluster: one process, one model, block after block of photos."""

from __future__ import annotations

import faulthandler
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from everything import errors
from everything.errors import EverythingError
from everything.io.images.sources import Source
from everything.io.results.manifest import Row
from everything.jobs.annotator import Annotator, Task, lost, row_of, run, settle
from everything.jobs.ray_attempts import Attempts, is_given_up
from everything.jobs.worker_pool import ALONE, patience, run_in_processes

_STDERR = 2
_LOST = "the processes that had it died {deaths} times (a crash, memory, or a lost machine): "


class Worker:
    """Annotates blocks of photos; an actor of Ray Data's, with the model loaded once.

    make: returns the annotator. threads: of torch.
    """

    def __init__(self, make: Callable[[], Annotator], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._make, self._threads = make, threads
        self._failed: EverythingError | None = None
        try:
            self._annotator = make()
            self._annotator.store.holds = True
        except EverythingError as error:
            self._failed = error

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the rows of a block of tasks, when all its results are written; or else what ends
        the job, as a row, since of what is raised here Ray would hand on the text only."""
        try:
            if self._failed is not None:
                raise self._failed
            rows = [vars(row) for row in self._done(tasks_in(block))]
        except EverythingError as error:
            where = f"on {socket.gethostname()}: {error}"
            rows = [{"stopped": type(error).__name__, "reason": where}]
        return pa.table({"row": [json.dumps(row) for row in rows]})

    def _done(self, tasks: list[Task]) -> list[Row]:
        rows: list[Row] = []
        attempts = Attempts(self._annotator.store.folder, tasks)
        if attempts.begin():
            tasks = list(self._undone(tasks, attempts, rows))
        fresh = [task for task in tasks if not task.deaths]
        with self._watched(rows.append) as emit:
            run(self._annotator, iter(fresh), emit)
        settle(rows, self._annotator.store)
        self._alone([task for task in tasks if task.deaths], attempts, rows)
        attempts.end()
        return rows

    @contextmanager
    def _watched(self, emit: Callable[[Row], None]) -> Iterator[Callable[[Row], None]]:
        """Die of a photo that hangs where nothing in here can stop it, and say where on stderr:
        the next worker does the block's photos alone, and ends a process that hangs."""
        limit = self._annotator.limits.max_seconds
        if limit is None:
            yield emit
            return

        def wait_again() -> None:
            faulthandler.dump_traceback_later(patience(limit), exit=True, file=_STDERR)

        def emitted(row: Row) -> None:
            emit(row)
            wait_again()

        wait_again()
        try:
            yield emitted
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _undone(
        self, tasks: list[Task], attempts: Attempts, rows: list[Row]
    ) -> Iterator[Task]:  # fmt: skip
        """The tasks of a block that a worker before has not done; of the others, the rows."""
        store = self._annotator.store
        for task in tasks:
            document = store.get(task.source.name)
            if document is None:
                deaths = attempts.deaths[task.source.name]
                attempt = task.attempt + deaths - task.deaths
                yield replace(task, deaths=deaths, attempt=attempt)
            else:
                row = row_of(document, task.source, task.source.size, store)
                rows.append(replace(row, attempt=task.attempt))

    def _alone(self, suspects: list[Task], attempts: Attempts, rows: list[Row]) -> None:
        """Do photos that were there when a worker died, each alone in a process that may die."""
        digest, limit = self._annotator.store.digest, self._annotator.limits.max_seconds
        for task in suspects:
            if is_given_up(task.deaths):
                rows.append(lost(task, digest, _LOST.format(deaths=task.deaths) + ALONE))
        tasks = [task for task in suspects if not is_given_up(task.deaths)]
        if tasks:
            trials = attempts.on_trial(iter(tasks))
            run_in_processes(self._make, digest, trials, rows.append, 1, self._threads, limit)


def block_of(tasks: list[Task]) -> pa.Table:
    """Return tasks as a block of Ray Data's, a row each: names and numbers, no pixels."""
    return pa.table({"task": [json.dumps(task) for task in map(_plain, tasks)]})


def tasks_in(block: pa.Table) -> list[Task]:
    """Return the tasks of a block."""
    rows = (json.loads(text) for text in block["task"].to_pylist())
    return [Task(Source(*source), attempt, deaths) for source, attempt, deaths in rows]


def rows_in(block: pa.Table) -> Iterator[Row]:
    """Yield the rows that a worker returned; raises what stopped it."""
    for text in block["row"].to_pylist():
        row = json.loads(text)
        if "stopped" in row:
            raise getattr(errors, row["stopped"])(row["reason"])
        yield Row(**row)


def _plain(task: Task) -> tuple[Source, int, int]:
    return task.source, task.attempt, task.deaths
