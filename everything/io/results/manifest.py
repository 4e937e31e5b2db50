"""The manifest of a job: one row per photo.

While a job runs, rows are appended to DIR/ledger.jsonl (in an object store they become shards), so
that a kill costs at most the line that was being written; at its end, and when the next run begins,
they go into the parquet manifest. Of several rows of a photo the last one counts.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from io import BytesIO
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from everything.core.file_names import as_text, printable
from everything.core.stage_timer import COUNTS, STAGES
from everything.io.storage.bucket import Bucket
from everything.io.storage.hashed_index import Numbers
from everything.io.storage.local import Folder, Stamp

_LEDGER, _ERRORS, _MANIFEST = "ledger.jsonl", "errors.jsonl", "manifest/part-00000.parquet"
_TIMES = (*STAGES, "total")
_BATCH = 4096
_FLUSH_SECONDS, _SLOWER = 5.0, 100
_log = logging.getLogger(__name__)

Status = Literal["done", "failed"]


@dataclass
class Row:
    """What became of a photo.

    folder: where it was found, `name` is relative to it; file, start: as of Source, where it is
    called otherwise there or is a part of an archive. width, height: upright px. seconds: by
    stage, with `total`. counts: prompts, decoder_calls, candidates, masks. started, finished:
    seconds since 1970. attempt: 1 is the first. source_bytes: size of the photo's file. bytes,
    mtime_ns: stamp of its result. shard: the file that it is in, if not one of its own.
    """

    name: str
    status: Status
    image_id: int
    digest: str
    host: str
    attempt: int
    started: float
    finished: float
    folder: str | None = None
    file: str | None = None
    start: int | None = None
    width: int | None = None
    height: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    source_bytes: int | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    shard: str | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    def fail(self, error: str) -> None:
        """Make it the row of a photo that has no result."""
        self.status, self.error = "failed", error
        self.bytes = self.mtime_ns = self.shard = None


class PriorResult(NamedTuple):
    """What an earlier run has left about a photo. done: with the recipe that was asked for."""

    done: bool
    attempt: int
    source_bytes: int | None
    stamp: Stamp | None
    shard: str | None


class PriorResults:
    """What earlier runs have left about photos, by `as_text` of their names, 64 bytes each.

    shards: the files that results are in which have none of their own.
    """

    def __init__(self, rows: pa.Table, digest: str) -> None:
        self.shards: dict[str, int] = {}
        self._numbers = Numbers(self._of(rows, digest), 6)
        self._shards = list(self.shards)

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, name: str) -> PriorResult | None:
        """Return what is known of a photo, or None if nothing is."""
        found = self._numbers.get(name)
        if found is None:
            return None
        done, attempt, source_bytes, size, mtime_ns, shard = found
        return PriorResult(
            bool(done),
            attempt,
            None if source_bytes < 0 else source_bytes,
            None if size < 0 or mtime_ns < 0 else Stamp(size, mtime_ns),
            None if shard < 0 else self._shards[shard],
        )

    def _of(self, rows: pa.Table, digest: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        for batch in rows.to_batches(max_chunksize=_BATCH):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                name, status, of, shard, attempt, *numbers = values
                done = status == "done" and of == digest
                place = -1 if shard is None else self.shards.setdefault(shard, len(self.shards))
                yield name, (done, attempt, *(-1 if n is None else n for n in numbers), place)


_KNOWN = ("name", "status", "digest", "shard", "attempt", "source_bytes", "bytes", "mtime_ns")
_ALWAYS = ("name", "status", "attempt", "finished")  # what every row has
_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("folder", pa.string()),
        ("file", pa.string()),
        ("start", pa.int64()),
        ("status", pa.string()),
        ("image_id", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        *((name, pa.int64()) for name in COUNTS),
        *((f"{stage}_seconds", pa.float64()) for stage in _TIMES),
        ("error", pa.string()),
        ("notes", pa.list_(pa.string())),
        ("started", pa.timestamp("ms", "UTC")),
        ("finished", pa.timestamp("ms", "UTC")),
        ("host", pa.string()),
        ("attempt", pa.int32()),
        ("digest", pa.string()),
        ("source_bytes", pa.int64()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("shard", pa.string()),
    ]
)


class Manifest:
    """The rows of the results in a folder; one job at a time writes them."""

    def __init__(self, folder: Folder | Bucket) -> None:
        self._folder = folder
        self._pending: list[dict[str, Any]] = []
        self._began = self._flushed = time.monotonic()

    def append(self, *rows: Row) -> None:
        """Add rows, and a line to errors.jsonl for each that failed; raises StoreError.

        In an object store nothing can be appended: rows are kept for a while and then written
        together, at first every few seconds, later less often so that a job of weeks has hundreds
        of shards and not a million. What a kill loses is had again from the results.
        """
        if isinstance(self._folder, Bucket):
            self._pending += (_flat(vars(row)) for row in rows)
            now = time.monotonic()
            if now - self._flushed > max(_FLUSH_SECONDS, (now - self._began) / _SLOWER):
                self.flush()
            return
        self._folder.append(_LEDGER, b"".join(_line(vars(row)) for row in rows))
        failed = [row for row in rows if row.status == "failed"]
        if failed:
            errors = ({"name": r.name, "error": r.error, "attempt": r.attempt} for r in failed)
            self._folder.append(_ERRORS, b"".join(map(_line, errors)))

    def flush(self) -> None:
        """Write the rows that are kept, as a shard of the manifest; raises StoreError."""
        if self._pending:
            self._write(_shard_name(), _table(self._pending))
            self._pending = []
        self._flushed = time.monotonic()

    def known(self, digest: str) -> PriorResults:
        """Return what earlier runs have left, and whether it is of the recipe of this digest."""
        shards = self._folder.list("manifest", ".parquet")
        return PriorResults(self._merged(shards, {*_KNOWN, *_ALWAYS}).select(_KNOWN), digest)

    def table(self) -> pa.Table:
        """Return the rows, one for each name, in the order of the names."""
        return self._merged(self._folder.list("manifest", ".parquet"))

    def _merged(self, shards: list[str], columns: Container[str] = _SCHEMA.names) -> pa.Table:
        """The rows of shards and of the ledger; of a million of them few columns are held."""
        wanted = [name for name in _SCHEMA.names if name in columns]
        parts = (*(self._shard(name, wanted) for name in shards), *self._batches())
        table = pa.concat_tables([part.select(wanted) for part in parts])
        table = table.filter(reduce(pc.and_, (pc.is_valid(table[name]) for name in _ALWAYS)))
        numbered = pa.table({"name": table["name"], "row": np.arange(table.num_rows)})
        last = numbered.group_by("name").aggregate([("row", "max")]).sort_by("name")
        return table.take(last["row_max"])

    def compact(self) -> None:
        """Write the manifest and errors.jsonl from all rows, and begin a new ledger.

        Killed between its steps it does no harm: rows are then in two places and count once.
        """
        self.flush()
        shards = self._folder.list("manifest", ".parquet")
        if self._is_compact(shards):
            return
        table = self._merged(shards)
        # On disk one job at a time is here; elsewhere another one may write shards meanwhile.
        whole = _shard_name() if isinstance(self._folder, Bucket) else _MANIFEST
        self._write(whole, table)
        self._folder.write(_ERRORS, _error_lines(table))
        self._folder.remove(_LEDGER, *(name for name in shards if name != whole))

    def _is_compact(self, shards: list[str]) -> bool:
        whole = isinstance(self._folder, Bucket) or shards == [_MANIFEST]
        others = self._folder.stamp(_LEDGER), self._folder.stamp(_ERRORS)
        return len(shards) == 1 and whole and others[0] is None and others[1] is not None

    def _write(self, name: str, table: pa.Table) -> None:
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self._folder.write(name, [buffer.getvalue()])

    def _shard(self, name: str, columns: list[str]) -> pa.Table:
        schema = pa.schema([_SCHEMA.field(column) for column in columns])
        content = self._folder.read(name) or b""
        try:
            file = pq.ParquetFile(BytesIO(content))
            table = file.read([name for name in file.schema_arrow.names if name in columns])
            empty = schema.empty_table()
            table = pa.concat_tables([empty, table], promote_options="default").cast(schema)
            table.validate(full=True)  # text that is none would be an error much later
            return table
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            # What it said can be had again from the results themselves.
            _log.warning("%s: not a manifest, ignored (%s)", printable(name), printable(str(error)))
            return schema.empty_table()

    def _batches(self) -> Iterator[pa.Table]:
        lines = self._lines()
        yield _SCHEMA.empty_table()
        while rows := list(islice(lines, _BATCH)):
            yield _table(rows)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self._folder.lines(_LEDGER):
            try:
                yield _flat(json.loads(line))
            except (
                ArithmeticError,
                ValueError,
                TypeError,
                LookupError,
                AttributeError,
                RecursionError,
            ):
                # A line that a kill has cut: its photo has no row and is looked at again.
                continue


def _shard_name() -> str:
    """A name of its own, after all that were there before: of two rows the later one counts."""
    return f"manifest/part-{time.time_ns():020}-{uuid.uuid4().hex[:8]}.parquet"


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows whose values are of other types, in a ledger that something else wrote, are left out."""
    try:
        return pa.Table.from_pylist(rows, _SCHEMA)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        half = len(rows) // 2
        if half == 0:
            return _SCHEMA.empty_table()
        return pa.concat_tables([_table(rows[:half]), _table(rows[half:])])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in ("seconds", "counts")}
    flat["name"], flat["folder"] = as_text(row["name"]), as_text(row.get("folder") or "")
    flat["file"] = as_text(row["file"]) if row.get("file") else None
    for stage in _TIMES:
        flat[f"{stage}_seconds"] = row["seconds"].get(stage)
    for count in COUNTS:
        flat[count] = row["counts"].get(count)
    for moment in ("started", "finished"):
        flat[moment] = round(1000 * row[moment])
    return flat


def _error_lines(table: pa.Table) -> Iterable[bytes]:
    for batch in table.select(("name", "status", "error", "attempt")).to_batches():
        for row in batch.to_pylist():
            if row.pop("status") == "failed":
                yield _line(row)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"
