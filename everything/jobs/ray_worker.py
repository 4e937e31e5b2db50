"""The worker of a Ray cluster: one process with one model, which annotates blocks of images."""

from __future__ import annotations

import faulthandler
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from everything.errors import EverythingError
from everything.io.results.manifest_rows import Row
from everything.jobs.annotator import Annotator, Task, flush_results, row_of, row_of_crash, run
from everything.jobs.ray_attempts import Attempts, is_given_up
from everything.jobs.ray_blocks import block_of_error, block_of_rows, tasks_in
from everything.jobs.worker_pool import WAY_OUT, hang_timeout, run_in_processes

_STDERR = 2
_CRASHED = "its worker processes died {crashes} times (a crash, memory, or a lost machine): "


class Worker:
    """Annotates blocks of images: an actor of Ray Data, which loads the model once.

    make: makes the annotator. threads: PyTorch threads.
    """

    def __init__(self, make: Callable[[], Annotator], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._make, self._threads = make, threads
        self._failed: EverythingError | None = None
        try:
            self._annotator = make()
            self._annotator.store.buffer_results()
        except EverythingError as error:
            self._failed = error

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the manifest rows of a block of tasks once all its results are written, or a
        block with the error that ends the job."""
        try:
            if self._failed is not None:
                raise self._failed
            return block_of_rows(self._done(tasks_in(block)))
        except EverythingError as error:
            return block_of_error(error, socket.gethostname())

    def _done(self, tasks: list[Task]) -> list[Row]:
        rows: list[Row] = []
        attempts = Attempts(self._annotator.store.folder, tasks)
        if attempts.begin():
            tasks = list(self._undone(tasks, attempts, rows))
        fresh = [task for task in tasks if not task.crashes]
        with self._hang_watchdog(rows.append) as emit:
            run(self._annotator, iter(fresh), emit)
        flush_results(rows, self._annotator.store)
        self._one_by_one([task for task in tasks if task.crashes], attempts, rows)
        attempts.end()
        return rows

    @contextmanager
    def _hang_watchdog(self, emit: Callable[[Row], None]) -> Iterator[Callable[[Row], None]]:
        """Exit if an image hangs in code that cannot be interrupted, with a traceback on stderr:
        the next worker runs the images of the block one by one and kills a process that hangs."""
        limit = self._annotator.limits.max_seconds
        if limit is None:
            yield emit
            return

        def wait_again() -> None:
            faulthandler.dump_traceback_later(hang_timeout(limit), exit=True, file=_STDERR)

        def emit_and_wait(row: Row) -> None:
            emit(row)
            wait_again()

        wait_again()
        try:
            yield emit_and_wait
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _undone(
        self, tasks: list[Task], attempts: Attempts, rows: list[Row]
    ) -> Iterator[Task]:  # fmt: skip
        """Yield the tasks that a previous worker has not done; append the rows of the others."""
        store = self._annotator.store
        for task in tasks:
            document = store.get(task.source.name)
            if document is None:
                crashes = attempts.crashes[task.source.name]
                attempt = task.attempt + crashes - task.crashes
                yield replace(task, crashes=crashes, attempt=attempt)
            else:
                row = row_of(document, task.source, task.source.size, store)
                rows.append(replace(row, attempt=task.attempt))

    def _one_by_one(self, suspects: list[Task], attempts: Attempts, rows: list[Row]) -> None:
        """Annotate images that were in a worker when it crashed, each alone in a process."""
        digest, limit = self._annotator.store.digest, self._annotator.limits.max_seconds
        for task in suspects:
            if is_given_up(task.crashes):
                rows.append(
                    row_of_crash(task, digest, _CRASHED.format(crashes=task.crashes) + WAY_OUT)
                )
        tasks = [task for task in suspects if not is_given_up(task.crashes)]
        if tasks:
            trials = attempts.on_trial(iter(tasks))
            run_in_processes([self._make], digest, trials, rows.append, 1, self._threads, limit)
