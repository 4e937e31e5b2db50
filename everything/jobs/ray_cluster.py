"""Tasks done by the workers of a Ray cluster.

The driver's process lists the photos, leaves out those that are done, and counts the rows that come
back; Ray Data moves blocks of names to actors, which read, segment and write (ray_worker.py). No
pixel and no mask goes through Ray. Where results and rows live, when a photo is done and what ends
a job is as in everything/jobs/label.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from everything.errors import JobError
from everything.io.images.decode import Limits
from everything.io.results.writer import Store
from everything.jobs.annotator import Annotator, Task
from everything.jobs.ray_attempts import ATTEMPTS, left_behind
from everything.jobs.ray_blocks import block_of_tasks, rows_in
from everything.jobs.ray_worker import Worker
from everything.kernels import loader

GIB = 2**30
_IN_FLIGHT = 2  # blocks an actor has: one that it does and one that it will not wait for
_WITHOUT_PHOTOS = GIB  # torch, a small model, and what its masks take
_BYTES_A_PIXEL = 16  # two photos as read, float copies for the model, full-size masks as they go
_UNCOMPILED = (
    "this copy of the program has no compiled kernels, so photos take longer: git ignores "
    "them, and --working-dir leaves out what git ignores: submit without it where the program is "
    "installed"
)
_CRASHES_LOADING = 8  # of workers in a row: what kills every worker is to end the job
_BLOCKS_EACH = 8  # at least, so that no worker is alone with the end of the job
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """What a job takes of a cluster.

    address: of its head; None is RAY_ADDRESS, or else a cluster on this machine. cpus, gpus, memory
    (bytes): of each worker, also parts of a GPU. min_workers, max_workers: between which the pool
    grows and shrinks; None is whatever fits. threads: of torch in each worker. block: photos that
    are handed out together, at most. time_limit: seconds of work on a photo.
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

    @property
    def limits(self) -> Limits:
        """The photos that fit into a worker's memory: a larger one is a row that says so, and not
        the death of its worker."""
        room = max(0, self.memory - _WITHOUT_PHOTOS) // _BYTES_A_PIXEL
        most = min(Limits().max_pixels, room)
        return Limits(max_pixels=most, max_seconds=self.time_limit)

    def run(
        self,
        make: Callable[[], Annotator],
        store: Store,
        tasks: Iterator[Task],
        emit: Callable[..., None],
    ) -> None:
        """Do all tasks on the cluster; see everything.jobs.label.Elsewhere.

        Raises what stopped a worker, such as StoreError, JobError if the cluster did, and
        ConfigError for results in this process's memory.
        """
        store.must_be_shared()
        if loader.kernels is None:
            _log.warning("%s", _UNCOMPILED)
        with connected(self.address):
            fits = self._fits()
            crashes = left_behind(store.folder)
            blocks = list(_blocks(tasks, crashes, self.block, fits))
            if blocks:
                self._run(blocks, make, emit, fits)
                store.folder.remove(ATTEMPTS)

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
            initial_size=max(least, min(fits, most)),  # it would grow by one at a time
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
            # for ever, as it should where machines come and go: ray_attempts.py gives photos up.
        )
        try:
            for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
                emit(*rows_in(block))
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[-500:]
            raise JobError(f"the cluster could not go on ({reason}): run the same again") from error

    def _fits(self) -> int:
        """How many workers the cluster, as it is now, can hold; at least one is asked for."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        needs = {name: need for name, need in wanted.items() if need}
        fits = sum(min(int(n.get(name, 0) // need) for name, need in needs.items()) for n in nodes)
        if fits:
            _log.info("%d workers fit on the cluster as it is now", fits)
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
    """The tasks as blocks: small ones where there are few, of a few kilobytes in any case."""
    first = list(islice(tasks, most * workers * _BLOCKS_EACH))
    size = max(1, min(most, -(-len(first) // (workers * _BLOCKS_EACH))))
    pending = iter(first)
    for source in (pending, tasks):
        while group := list(islice(source, size)):
            yield block_of_tasks(
                [_charged(task, crashes.get(task.source.name, 0)) for task in group]
            )


def _charged(task: Task, crashes: int) -> Task:
    return replace(task, crashes=crashes, attempt=task.attempt + crashes)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster, or start one here; raises JobError."""
    # No telemetry, and no bars that count blocks: progress is told in photos.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray
    import ray.data

    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(address)
        _settle(ray.data.DataContext.get_current())
        yield
    finally:
        if ours:
            ray.shutdown()


def _settle(context: Any) -> None:
    """Let jobs of days go on, and say here only what they say themselves; Ray's own log, in files
    of its session, has the rest."""
    context.enable_progress_bars = False
    # No block comes back for half an hour where a photo takes a minute, or machines are awaited.
    context.execution_no_progress_timeout_s = -1
    # A machine that is lost while its workers load their models is not the end of the job.
    context.max_consecutive_actor_init_deaths = _CRASHES_LOADING
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _connect(address: str | None) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise JobError(f"Ray at {address or 'this machine'}: {reason}: start it first") from error
