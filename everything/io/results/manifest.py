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
from functools import reduce
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from everything.core.file_names import printable
from everything.errors import reason_of
from everything.io.results.manifest_rows import (
    ALWAYS,
    DAMAGE,
    SCHEMA,
    Row,
    checked,
    flat_row,
    readable,
    table_of,
)
from everything.io.results.prior_results import KNOWN, PriorResults
from everything.io.storage.storage import Storage

_LEDGER, _ERRORS, _MANIFEST = "ledger.jsonl", "errors.jsonl", "manifest/part-00000.parquet"
_PART = re.compile(r"manifest/part-(00000|\d{20}-[0-9a-f]{8})\.parquet")
_BATCH = 4096
_FLUSH_SECONDS, _SLOWER = 5.0, 100
_log = logging.getLogger(__name__)


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
            self._pending += (flat_row(vars(row), self._folder.root) for row in rows)
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
            self._write(self._next_shard(), table_of(self._pending))
            self._pending = []
        self._flushed = time.monotonic()

    def known(self, digest: str | None) -> PriorResults:
        """Return the state of all images after earlier runs.

        Args:
            digest: That of the recipe with which an image counts as done; None for any.
        """
        return PriorResults(self._merged(self._parts(), {*KNOWN, *ALWAYS}).select(KNOWN), digest)

    def places(self) -> pa.Table:
        """Return name, folder, file and start of every image that has a row."""
        columns = ("name", "folder", "file", "start")
        return self._merged(self._parts(), {*columns, *ALWAYS}).select(columns).combine_chunks()

    def table(self) -> pa.Table:
        """Return the rows, one per name, sorted by name."""
        return self._merged(self._parts())

    def _parts(self) -> list[str]:
        """The manifest's own files; others beside them are left alone."""
        return [name for name in self._folder.list("manifest", ".parquet") if is_part(name)]

    def _merged(self, shards: list[str], columns: Container[str] = SCHEMA.names) -> pa.Table:
        """Merge the rows of shards and of ledger.jsonl; `columns` limits memory for millions."""
        wanted = [name for name in SCHEMA.names if name in columns]
        parts = (*(self._shard(name, wanted) for name in shards), *self._batches())
        table = pa.concat_tables([part.select(wanted) for part in parts])
        table = table.filter(reduce(pc.and_, (pc.is_valid(table[name]) for name in ALWAYS)))
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
        schema = pa.schema([SCHEMA.field(column) for column in columns])
        content = self._folder.read(name)
        if content is None:
            return schema.empty_table()  # another process has merged it into another one
        try:
            file = pq.ParquetFile(BytesIO(content))
            return checked(file.read([n for n in file.schema_arrow.names if n in columns]), schema)
        except DAMAGE as error:
            self._damaged.add(name)
            table = readable(content, schema)
            reason = printable(reason_of(error))
            _log.warning(
                "%s: damaged, %d rows could be read (%s)", printable(name), table.num_rows, reason
            )
            return table

    def _batches(self) -> Iterator[pa.Table]:
        lines = self._lines()
        yield SCHEMA.empty_table()
        while rows := list(islice(lines, _BATCH)):
            yield table_of(rows)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self._folder.lines(_LEDGER):
            try:
                yield flat_row(json.loads(line), self._folder.root)
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


def is_part(name: str) -> bool:
    """Tell whether a file is called as the manifest's own files are."""
    return _PART.fullmatch(name) is not None


def _number_of(part: str) -> int:
    found = _PART.fullmatch(part)
    return int(found[1].partition("-")[0]) if found else 0


def _error_lines(table: pa.Table) -> Iterable[bytes]:
    for batch in table.select(("name", "status", "error", "attempt")).to_batches():
        for row in batch.to_pylist():
            if row.pop("status") == "failed":
                yield _line(row)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"
