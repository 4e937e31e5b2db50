"""Run the tasks of a job on a Ray cluster.

The driver lists the images, skips those that are done, and counts the rows that come back; Ray
Data sends blocks of names to actors, which read, segment and write (ray_worker.py). No pixels and
no masks go through Ray. Where results and rows are, when an image is done and what ends a job is as
in everything/jobs/label.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from everything.errors import JobError, reason_of
from everything.io.images.decode import Limits
from everything.io.results.writer import Store
from everything.jobs.annotator import Annotator, Task
from everything.jobs.ray_address import address_to_join, described_address
from everything.jobs.ray_attempts import ATTEMPTS, take_crash_counts
from everything.jobs.ray_blocks import block_of_tasks, rows_in
from everything.jobs.ray_worker import Worker
from everything.kernels import loader

GIB = 2**30
_IN_FLIGHT = 2  # blocks per actor: one in work, and the next one so that it never waits
_WITHOUT_PHOTOS = GIB  # torch, a small model, and what its masks take
_BYTES_A_PIXEL = 16  # two images as read, float copies for the model, full-size masks
_UNCOMPILED = (
    "this copy of the program has no compiled kernels, so images take longer: git ignores "
    "them, and --working-dir leaves out what git ignores: submit without it where the program is "
    "installed"
)
_CRASHES_LOADING = 8  # of workers in a row, after which the job ends: all of them would crash
_BLOCKS_EACH = 8  # at least, so that at the end no worker runs alone for long
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """The cluster and the resources that a job uses on it.

    Args:
        address: of the head; None for RAY_ADDRESS, or else a new cluster on this machine.
        cpus: cores per worker.
        gpus: GPUs per worker, also a fraction of one.
        memory: bytes per worker.
        min_workers: minimum size of the pool.
        max_workers: maximum size of the pool; None for as many as fit.
        threads: PyTorch threads per worker.
        block: maximum number of images in a block.
        time_limit: seconds per image.
        max_pixels: pixels per image.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    memory: int = 2 * GIB
    min_workers: int = 1
    max_workers: int | None = None
    threads: int = 1
    block: int = 32
    time_limit: float | None = None
    max_pixels: int = Limits().max_pixels

    @property
    def limits(self) -> Limits:
        """Limits for images that fit into a worker's memory: a larger one fails with a message
        instead of crashing its worker."""
        room = max(0, self.memory - _WITHOUT_PHOTOS) // _BYTES_A_PIXEL
        most = min(self.max_pixels, room)
        return Limits(max_pixels=most, max_seconds=self.time_limit)

    def run(
        self,
        make: Callable[[], Annotator],
        store: Store,
        tasks: Iterator[Task],
        emit: Callable[..., None],
    ) -> None:
        """Run all tasks on the cluster; see everything.jobs.label.Executor.

        Raises what stopped a worker, such as StoreError, JobError if the cluster failed, and
        ConfigError for results in this process's memory.
        """
        store.must_be_shared()
        if loader.kernels is None:
            _log.warning("%s", _UNCOMPILED)
        with connected(self.address):
            fits = self._fits()
            crashes = take_crash_counts(store.folder)
            blocks = list(_blocks(tasks, crashes, self.block, fits))
            if blocks:
                try:
                    self._run(blocks, make, emit, fits)
                except KeyboardInterrupt:
                    # an orderly end: nothing is suspected
                    store.folder.remove(store.folder.list(ATTEMPTS, ".json"))
                    raise
                store.folder.remove(store.folder.list(ATTEMPTS, ".json"))

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect to the cluster; for use around `label`, so that a wrong address is reported
        before the folder of results is opened. Raises JobError."""
        with connected(self.address):
            yield

    def _run(
        self,
        blocks: list[Any],
        make: Callable[[], Annotator],
        emit: Callable[..., None],
        fits: int,
    ) -> None:
        import ray

        most = min(self.max_workers or len(blocks), len(blocks))
        least = min(self.min_workers, most)
        pool = ray.data.ActorPoolStrategy(
            min_size=least,
            max_size=most,
            initial_size=max(least, min(fits, most)),  # else the pool grows by one at a time
            max_tasks_in_flight_per_actor=_IN_FLIGHT,
        )
        rows = ray.data.from_blocks(blocks).map_batches(
            Worker,
            fn_constructor_args=(make, self.threads),
            compute=pool,
            batch_size=blocks[0].num_rows,  # of every block but the last: a batch is a block
            batch_format="pyarrow",
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            memory=self.memory,
            # Ray Data restarts actors (max_restarts) and runs their blocks again (max_task_retries)
            # for ever, as it should where machines come and go; ray_attempts.py gives images up.
        )
        try:
            for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
                emit(*rows_in(block))
        except ray.exceptions.RayError as error:
            reason = reason_of(error)[-500:]
            raise JobError(
                f"the cluster failed ({reason}): rerun the same command to resume"
            ) from error

    def _fits(self) -> int:
        """Number of workers that fit on the cluster at the moment; at least 1."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        needs = {name: need for name, need in wanted.items() if need}
        fits = sum(min(int(n.get(name, 0) // need) for name, need in needs.items()) for n in nodes)
        if fits:
            _log.info("%d workers fit on the cluster at the moment", fits)
        else:
            _log.warning("%s", self._waiting())
        return max(1, fits)

    def _waiting(self) -> str:
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        each = f"{self.cpus:g} cores{gpus} and {self.memory / GIB:g} GiB"
        return f"no machine of the cluster has a worker's {each}: waiting for one that has"


def _blocks(
    tasks: Iterator[Task], crashes: dict[str, int], most: int, workers: int
) -> Iterator[Any]:
    """Yield the tasks as blocks, smaller ones if there are few tasks; each has a few kilobytes."""
    first = list(islice(tasks, most * workers * _BLOCKS_EACH))
    size = max(1, min(most, -(-len(first) // (workers * _BLOCKS_EACH))))
    pending = iter(first)
    for source in (pending, tasks):
        while group := list(islice(source, size)):
            yield block_of_tasks(
                [_with_crashes(task, crashes.get(task.source.name, 0)) for task in group]
            )


def _with_crashes(task: Task, crashes: int) -> Task:
    return replace(task, crashes=crashes, attempt=task.attempt + crashes)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; raises JobError, for a wrong address
    within seconds."""
    # No telemetry, and no bars that count blocks: progress counts images.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray
    import ray.data

    started_here = not ray.is_initialized()
    try:
        if started_here:
            _connect(address)
        _configure(ray.data.DataContext.get_current())
        yield
    finally:
        if started_here:
            ray.shutdown()


def _configure(context: Any) -> None:
    """Set Ray Data up for jobs of days, and keep its messages off the terminal; Ray's own log
    files have them."""
    context.enable_progress_bars = False
    # No block may come back for half an hour if an image takes a minute, or machines are awaited.
    context.execution_no_progress_timeout_s = -1
    # Losing a machine while its workers load their models must not end the job.
    context.max_consecutive_actor_init_deaths = _CRASHES_LOADING
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _connect(address: str | None) -> None:
    found = address_to_join(address)
    import ray

    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises bare ones, such as for a start that took too long
        where, reason = described_address(address), reason_of(error)
        raise JobError(f"Ray at {where}: {reason}: start it first") from error
