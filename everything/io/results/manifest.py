"""The manifest of a job: one row per image.

While a job runs, rows are appended to DIR/ledger.jsonl (in an object store: written as shards of
the manifest), so that a kill loses at most the line that is being written. At its end, and at the
start of the next run, they are merged into the parquet manifest. The last row of an image counts.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from io import BytesIO
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everything.core.file_names import as_text, printable
from everything.core.stage_timer import COUNTS, STAGES
from everything.errors import reason_of
from everything.io.results.image_folders import relative
from everything.io.storage.hashed_index import HashedIndex
from everything.io.storage.locations import Location
from everything.io.storage.storage import Stamp, Storage

_LEDGER, _ERRORS, _MANIFEST = "ledger.jsonl", "errors.jsonl", "manifest/part-00000.parquet"
_PART = re.compile(r"manifest/part-(00000|\d{20}-[0-9a-f]{8})\.parquet")
_TIMES = (*STAGES, "total")
_BATCH = 4096
_FLUSH_SECONDS, _SLOWER = 5.0, 100
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_log = logging.getLogger(__name__)

Status = Literal["done", "failed"]


@dataclass
class Row:
    """The manifest row of an image.

    Attributes:
        name: Name of the image, relative to `folder`.
        status: Whether it has a result.
        image_id: Number of the name, see file_names.image_id.
        digest: Digest of the recipe.
        host: Name of the machine.
        attempt: Number of the attempt, from 1.
        started: Start of the attempt, seconds since 1970.
        finished: End of the attempt, seconds since 1970.
        folder: The folder in which the image was found.
        file: As in Source, if the file's name differs from `name` or it is part of an archive.
        start: As in Source, like `file`.
        width: Width of the upright image, px.
        height: Height of the upright image, px.
        seconds: Seconds by stage, with `total`.
        counts: Numbers of prompts, decoder_calls, candidates and masks.
        source_bytes: Size of the image's file.
        source_mtime_ns: Modification time of that file, if it is on a disk.
        source_hash: Hash of its content, if all of it was read.
        bytes: Size of the result (its stamp).
        mtime_ns: Modification time of the result (its stamp).
        shard: The file with the result, if it is not a file of its own.
        error: Why it failed.
        notes: What reading the image had to assume.
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
    source_mtime_ns: int | None = None
    source_hash: int | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    shard: str | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    def fail(self, error: str) -> None:
        """Turn this into the row of an image that failed."""
        self.status, self.error = "failed", error
        self.bytes = self.mtime_ns = self.shard = None


class PriorResult(NamedTuple):
    """The state of an image after earlier runs; `done` refers to the requested recipe."""

    done: bool
    attempt: int
    source_bytes: int | None
    stamp: Stamp | None
    shard: str | None
    source_mtime_ns: int | None = None
    source_hash: int | None = None


class PriorResults:
    """The state of images after earlier runs, by `as_text` of their names; 80 bytes per image.

    Args:
        rows: A table of the columns _KNOWN.
        digest: Digest of the requested recipe; None for any.

    Attributes:
        shards: The files with results of several images, numbered.
        done: The number of images that are done.
    """

    def __init__(self, rows: pa.Table, digest: str | None) -> None:
        self.shards: dict[str, int] = {}
        self.done = 0
        self._index = HashedIndex(self._of(rows, digest), 9)
        self._shards = list(self.shards)

    def __len__(self) -> int:
        return len(self._index)

    def count(self, keys: NDArray[np.bytes_]) -> int:
        """Return how many of these names (hashed_index.hashed) have a row."""
        return self._index.count(keys)

    def get(self, name: str) -> PriorResult | None:
        """Return the state of an image, or None if it has no row."""
        found = self._index.get(name)
        if found is None:
            return None
        done, attempt, source_bytes, size, mtime_ns, source_mtime_ns, hashed, digest, shard = found
        return PriorResult(
            bool(done),
            attempt,
            None if source_bytes < 0 else source_bytes,
            None if size < 0 or mtime_ns < 0 else Stamp(size, mtime_ns),
            None if shard < 0 else self._shards[shard],
            None if source_mtime_ns < 0 else source_mtime_ns,
            digest if hashed else None,
        )

    def _of(self, rows: pa.Table, digest: str | None) -> Iterator[tuple[str, tuple[int, ...]]]:
        for batch in rows.to_batches(max_chunksize=_BATCH):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                name, status, of, shard, attempt, *numbers, digest_of_source = values
                done = status == "done" and digest in (None, of)
                self.done += done
                place = -1 if shard is None else self.shards.setdefault(shard, len(self.shards))
                hashed = (digest_of_source is not None, digest_of_source or 0)
                known = (-1 if number is None else number for number in numbers)
                yield name, (done, attempt, *known, *hashed, place)


_KNOWN = ("name", "status", "digest", "shard", "attempt", "source_bytes", "bytes", "mtime_ns",
          "source_mtime_ns", "source_hash")  # fmt: skip
_ALWAYS = ("name", "status", "attempt", "finished")  # never missing
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
        ("relative", pa.string()),  # path of the folder, or file, from the results folder
        ("source_mtime_ns", pa.int64()),
        ("source_hash", pa.int64()),
    ]
)


class Manifest:
    """The manifest of a results folder, written by one job at a time.

    Args:
        folder: The results folder, on disk or in an object store.
    """

    def __init__(self, folder: Storage) -> None:
        self._folder = folder
        self._pending: list[dict[str, Any]] = []
        self._damaged: set[str] = set()  # files that could not be read, or not all of them
        self._last: int | None = None  # number of the last shard
        self._began = self._flushed = time.monotonic()

    def append(self, *rows: Row) -> None:
        """Add rows, and a line in errors.jsonl for each failure.

        Nothing can be appended to an object. In an object store, rows are collected and written
        together: every few seconds at first, then less and less often, so that a job of weeks
        writes hundreds of shards and not a million. Rows that a kill loses are restored from the
        results.

        Raises:
            StoreError: They cannot be written.
        """
        if not self._folder.can_append:
            self._pending += (_flat(vars(row), self._folder.root) for row in rows)
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
        """Write the collected rows as a shard of the manifest.

        Raises:
            StoreError: It cannot be written.
        """
        if self._pending:
            self._write(self._next_shard(), _table(self._pending))
            self._pending = []
        self._flushed = time.monotonic()

    def known(self, digest: str | None) -> PriorResults:
        """Return the state of all images after earlier runs.

        Args:
            digest: That of the recipe with which an image counts as done; None for any.
        """
        return PriorResults(self._merged(self._parts(), {*_KNOWN, *_ALWAYS}).select(_KNOWN), digest)

    def places(self) -> pa.Table:
        """Return name, folder, file and start of every image that has a row."""
        columns = ("name", "folder", "file", "start")
        return self._merged(self._parts(), {*columns, *_ALWAYS}).select(columns).combine_chunks()

    def table(self) -> pa.Table:
        """Return the rows, one per name, sorted by name."""
        return self._merged(self._parts())

    def _parts(self) -> list[str]:
        """The manifest's own files; others beside them are left alone."""
        return [name for name in self._folder.list("manifest", ".parquet") if is_part(name)]

    def _merged(self, shards: list[str], columns: Container[str] = _SCHEMA.names) -> pa.Table:
        """Merge the rows of shards and of ledger.jsonl; `columns` limits memory for millions."""
        wanted = [name for name in _SCHEMA.names if name in columns]
        parts = (*(self._shard(name, wanted) for name in shards), *self._batches())
        table = pa.concat_tables([part.select(wanted) for part in parts])
        table = table.filter(reduce(pc.and_, (pc.is_valid(table[name]) for name in _ALWAYS)))
        numbered = pa.table({"name": table["name"], "row": np.arange(table.num_rows)})
        last = numbered.group_by("name").aggregate([("row", "max")]).sort_by("name")
        return table.take(last["row_max"])

    def compact(self) -> None:
        """Merge all rows into the manifest and errors.jsonl, and delete ledger.jsonl.

        A kill between the steps does no harm: rows that are in two places count once. What is
        damaged is not deleted but set aside; rows that can still be read are kept.
        """
        self.flush()
        shards = self._parts()
        if self._is_compact(shards) and not self._damaged:
            return
        self._damaged.clear()
        table = self._merged(shards)
        for name in sorted(self._damaged):
            aside = self._folder.set_aside(name)
            _log.warning("%s: damaged, set aside as %s", printable(name), printable(aside))
        # On disk one job at a time writes; in a bucket, others may add shards meanwhile.
        whole = self._next_shard() if not self._folder.can_append else _MANIFEST
        self._write(whole, table)
        self._folder.write(_ERRORS, _error_lines(table))
        kept = {whole, *self._damaged}
        self._folder.remove(name for name in (_LEDGER, *shards) if name not in kept)
        self._damaged.clear()

    def _is_compact(self, shards: list[str]) -> bool:
        whole = not self._folder.can_append or shards == [_MANIFEST]
        others = self._folder.stamp(_LEDGER), self._folder.stamp(_ERRORS)
        return len(shards) == 1 and whole and others[0] is None and others[1] is not None

    def _next_shard(self) -> str:
        """Return a unique name that sorts after all shards there are: the later of two rows counts.

        The clock alone would not do, since that of the machine that wrote them may have been ahead.
        """
        if self._last is None:
            self._last = max(map(_number_of, self._parts()), default=0)
        self._last = max(time.time_ns(), self._last + 1)
        return f"manifest/part-{self._last:020}-{uuid.uuid4().hex[:8]}.parquet"

    def _write(self, name: str, table: pa.Table) -> None:
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self._folder.write(name, [buffer.getvalue()])

    def _shard(self, name: str, columns: list[str]) -> pa.Table:
        schema = pa.schema([_SCHEMA.field(column) for column in columns])
        content = self._folder.read(name)
        if content is None:
            return schema.empty_table()  # another process has merged it into another one
        try:
            file = pq.ParquetFile(BytesIO(content))
            return _checked(file.read([n for n in file.schema_arrow.names if n in columns]), schema)
        except _DAMAGE as error:
            self._damaged.add(name)
            table = _readable(content, schema)
            reason = printable(reason_of(error))
            _log.warning(
                "%s: damaged, %d rows could be read (%s)", printable(name), table.num_rows, reason
            )
            return table

    def _batches(self) -> Iterator[pa.Table]:
        lines = self._lines()
        yield _SCHEMA.empty_table()
        while rows := list(islice(lines, _BATCH)):
            yield _table(rows)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self._folder.lines(_LEDGER):
            try:
                yield _flat(json.loads(line), self._folder.root)
            except (
                ArithmeticError,
                ValueError,
                TypeError,
                LookupError,
                AttributeError,
                RecursionError,
            ):
                # The last line is one that a kill has cut: its image is processed again.
                if line.endswith(b"\n"):
                    self._damaged.add(_LEDGER)


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    table = pa.concat_tables([schema.empty_table(), table], promote_options="default").cast(schema)
    table.validate(full=True)  # invalid text would raise much later
    return table


def _readable(content: bytes, schema: pa.Schema) -> pa.Table:
    """Return what can be read of a damaged part: rows of which a name, status and times are left.

    The other columns are empty where they are damaged. Lost rows can be restored from the results.
    """
    groups = []
    with suppress(*_DAMAGE):
        file = pq.ParquetFile(BytesIO(content))
        for group in range(file.num_row_groups):
            columns = {}
            for name in schema.names:
                with suppress(*_DAMAGE):
                    part = pa.schema([schema.field(name)])
                    columns[name] = _checked(file.read_row_group(group, [name]), part)[name]
            if columns.keys() >= set(_ALWAYS):
                groups.append(_checked(pa.table(columns), schema))
    return pa.concat_tables(groups) if groups else schema.empty_table()


def is_part(name: str) -> bool:
    """Tell whether a file is called as the manifest's own files are."""
    return _PART.fullmatch(name) is not None


def _number_of(part: str) -> int:
    found = _PART.fullmatch(part)
    return int(found[1].partition("-")[0]) if found else 0


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return a table of the rows, without those that have values of unexpected types."""
    try:
        return pa.Table.from_pylist(rows, _SCHEMA)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        half = len(rows) // 2
        if half == 0:
            return _SCHEMA.empty_table()
        return pa.concat_tables([_table(rows[:half]), _table(rows[half:])])


def _flat(row: dict[str, Any], root: Location) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in ("seconds", "counts")}
    flat["name"], flat["folder"] = as_text(row["name"]), as_text(row.get("folder") or "")
    flat["file"] = as_text(row["file"]) if row.get("file") else None
    flat["relative"] = relative(flat["file"] or flat["folder"], root)
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
