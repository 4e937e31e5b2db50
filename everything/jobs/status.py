"""The progress of a job, read from its manifest by anyone who can read the results."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.compute as pc
from rich.table import Table

from everything.core.file_names import printable
from everything.core.stage_timer import STAGES
from everything.errors import InputError
from everything.io.results.manifest import Manifest
from everything.io.results.writer import folder_at
from everything.io.storage.locations import Location
from everything.io.storage.storage import Storage

# Readers of parquet folders ignore files whose names begin with an underscore.
_STATE = "manifest/_job.json"
_RECENT = 600.0


@dataclass(frozen=True)
class JobState:
    """images: listed by this job or an earlier one here. began, ended: seconds since 1970; ended is
    None while it runs, or if it was killed.

    after_death: whether an earlier job here was killed or crashed, perhaps by one image.
    """

    images: int
    began: float
    ended: float | None = None
    after_death: bool = False


@dataclass(frozen=True)
class Status:
    """images, done, failed, left: numbers of images, of all jobs in this folder. masks: of all that
    are done.

    images_per_second: over the last ten minutes of the last run that had something to do.
    seconds_left: at that speed. last: when the last image was finished, seconds since 1970.
    stage_seconds: means per image. hosts: number of images by machine.
    """

    out: str
    state: str
    images: int
    done: int
    failed: int
    left: int
    masks: int
    images_per_second: float
    seconds_left: float | None
    last: float | None
    stage_seconds: dict[str, float]
    hosts: dict[str, int]

    def table(self) -> Table:
        """Return it for a terminal."""
        table = Table(box=None, pad_edge=False, show_header=False)
        cells = asdict(self) | {"stage_seconds": "", "hosts": ""}
        ago = None if self.last is None else f"{time.time() - self.last:,.0f} s ago"
        cells |= {"last": ago, "images_per_second": f"{self.images_per_second:.2f}"}
        cells |= {f"{name} seconds": f"{mean:.4f}" for name, mean in self.stage_seconds.items()}
        cells |= {f"on {printable(host)}": count for host, count in self.hosts.items()}
        for name, value in cells.items():
            if value not in ("", None):
                text = f"{value:,.0f}" if isinstance(value, int | float) else str(value)
                table.add_row(name.replace("_", " "), text)
        return table


def write_state(folder: Storage, state: JobState) -> None:
    """Record a job beside its manifest; raises StoreError."""
    folder.write(_STATE, [json.dumps(asdict(state)).encode()])


def read_state(folder: Storage) -> JobState | None:
    """Return the record of the last job in a folder, None if there is none; raises StoreError."""
    return _state(folder.read(_STATE))


def has_crashed(folder: Storage) -> bool:
    """Return whether a job in this folder was ever killed, or crashed; raises StoreError."""
    state = read_state(folder)
    return state is not None and (state.after_death or state.ended is None)


def status(out: Location) -> Status:
    """Return the progress of the job that writes to `out`; raises InputError if there is none."""
    folder = folder_at(out)
    state = read_state(folder)
    if state is None:
        raise InputError(f"{printable(str(out))}: no job was started here: give the --out of a job")
    table = Manifest(folder).table()
    counts = Counter(table["status"].to_pylist())
    done, failed = counts["done"], counts["failed"]
    finished = pc.cast(table["finished"], "int64").to_numpy() / 1000
    now = time.time() if state.ended is None else state.ended
    since = max(state.began, now - _RECENT)
    recent = finished[(finished >= since) & (finished <= now)]
    rate = len(recent) / (now - since) if now > since else 0.0
    images = max(state.images, table.num_rows)
    left = images - done - failed
    return Status(
        out=printable(str(out)),
        state="running, or killed" if state.ended is None else "ended",
        images=images,
        done=done,
        failed=failed,
        left=left,
        masks=int(pc.sum(table["masks"]).as_py() or 0),
        images_per_second=round(rate, 3),
        seconds_left=round(left / rate, 1) if rate > 0 and state.ended is None else None,
        last=float(finished.max()) if len(finished) else None,
        stage_seconds=_means(table),
        hosts=dict(Counter(table["host"].to_pylist()).most_common()),
    )


def _state(content: bytes | None) -> JobState | None:
    try:
        state = JobState(**json.loads(content or b""))
        numbers = (state.images, state.began, state.ended or 0.0)
        return (
            state if all(isinstance(n, int | float) and abs(n) < 2**53 for n in numbers) else None
        )
    except (ValueError, TypeError, RecursionError):
        return None


def _means(table: Any) -> dict[str, float]:
    means = {name: pc.mean(table[f"{name}_seconds"]).as_py() for name in (*STAGES, "total")}
    return {name: round(mean, 4) for name, mean in means.items() if mean is not None}
