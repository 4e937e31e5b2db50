"""A real Ray cluster of three machines' processes on this one, and a model that tells its tries."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everything.config import Recipe
from everything.core.geometry import View
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.jobs.annotator import Annotator, Task
from everything.jobs.ray_blocks import block_of_tasks, rows_in
from everything.jobs.ray_worker import Worker
from everything.pipeline.pipeline import Pipeline
from everything.samplers.grid import Grid
from tests import fakes

TRIES = "EVERYTHING_TEST_TRIES"
SLOW = 11  # width of a photo that takes SECONDS
SECONDS = 6.0
HEAVY = "heavy"  # a variant that takes LOADING s to load, and tells that as of a photo of height 0
LOADING = 3.0
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # or a busy machine never gets to them
    "RAY_AUTH_MODE": "disabled",  # or it writes a token into the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "4",  # where a job's is not: photos take longer
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(Path(__file__).parents[2]), os.getenv("PYTHONPATH")])
    ),
}
# A machine that is gone is missed after seconds; one that is only slow has time to answer.
_PATIENCE = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 10000,
    "health_check_failure_threshold": 5,
}
_NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20, "memory": 3 * 2**30}


class Machines:
    """The cluster; the driver, which is the test, is on the first machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = _NODE | {"include_dashboard": False, "_system_config": _PATIENCE}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._last: list[Any] = []

    def fill(self) -> None:
        """Bring the cluster to three machines."""
        while len(self._last) < 2:
            self._last.append(self._cluster.add_node(**_NODE))
        self._cluster.wait_for_nodes()

    def lose(self) -> None:
        """Take one away, without grace."""
        self._cluster.remove_node(self._last.pop(), allow_graceful=False)

    def stop(self) -> None:
        """End all processes."""
        self._cluster.shutdown()


@contextmanager
def machines(tries: Path) -> Iterator[Machines]:
    """Start the cluster and connect to it; tries: a folder where the model tells them."""
    import ray

    before = dict(os.environ)
    os.environ |= _ENVIRONMENT | {TRIES: str(tries)}
    cluster = Machines()
    try:
        cluster.fill()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        ray.shutdown()
        cluster.stop()
        os.environ.clear()
        os.environ |= before


def in_one_worker(
    make: Callable[[], Annotator], store: Store, tasks: Iterator[Task], emit: Callable[[Row], None]
) -> None:
    """Take the place of a cluster: blocks of two, one after the other."""
    block = list(tasks)
    one = Worker(make, 1)
    for at in range(0, len(block), 2):
        for row in rows_in(one(block_of_tasks(block[at : at + 2]))):
            emit(row)


class Telling(fakes.Discs):
    """Leaves word of each try: HEIGHTxWIDTH of the photo, process and time."""

    def encode(self, view: View) -> View:
        height, width = view.size
        _tell(height, width)
        if width == SLOW:
            time.sleep(SECONDS)
        return super().encode(view)


def build(recipe: Recipe) -> Pipeline:
    """Take the place of loading.build on the cluster; `seconds_*` as in tests/fakes.py."""
    settings = {key: value for key, value in recipe.sampler.items() if key != "name"}
    seconds = float(recipe.version.removeprefix("seconds_"))
    if recipe.variant == HEAVY:
        _tell(0, 0)
        time.sleep(LOADING)
    return Pipeline(Telling(seconds), Grid(**settings), recipe)


def _tell(height: int, width: int) -> None:
    Path(os.environ[TRIES], f"{height}x{width} {os.getpid()} {time.time_ns()}").touch()


def _told() -> list[str]:
    return [path.name for path in Path(os.environ[TRIES]).iterdir()]


def forget(height: int) -> None:
    """Tries of photos of that height so far do not count."""
    for name in _told():
        if name.startswith(f"{height}x"):
            Path(os.environ[TRIES], name).unlink()


def tries(height: int) -> Counter[int]:
    """How often each photo of that height was begun, by its width."""
    found = (name.split()[0].split("x") for name in _told())
    return Counter(int(width) for tall, width in found if int(tall) == height)


def processes(height: int) -> list[int]:
    """The processes that have begun photos of that height, the last first."""
    found = [name.split() for name in _told()]
    mine = [(int(at), int(pid)) for size, pid, at in found if size.startswith(f"{height}x")]
    return [pid for _, pid in sorted(mine, reverse=True)]
