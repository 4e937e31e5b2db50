"""Rows of the manifest, and tables of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from everything.core.file_names import as_text
from everything.core.stage_timer import COUNTS, STAGES
from everything.io.results.image_folders import relative
from everything.io.storage.locations import Location

_TIMES = (*STAGES, "total")
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)  # what damaged parts raise
ALWAYS = ("name", "status", "attempt", "finished")  # never missing
SCHEMA = pa.schema(
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


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Return a table of the rows, without those that have values of unexpected types."""
    try:
        return pa.Table.from_pylist(rows, SCHEMA)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        half = len(rows) // 2
        if half == 0:
            return SCHEMA.empty_table()
        return pa.concat_tables([table_of(rows[:half]), table_of(rows[half:])])


def flat_row(row: dict[str, Any], root: Location) -> dict[str, Any]:
    """Return a row's values by column, for results in `root`."""
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


def checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the schema's columns, those that it lacks empty; raises one of DAMAGE."""
    table = pa.concat_tables([schema.empty_table(), table], promote_options="default").cast(schema)
    table.validate(full=True)  # invalid text would raise much later
    return table


def readable(content: bytes, schema: pa.Schema) -> pa.Table:
    """Return what can be read of a damaged part: rows of which a name, status and times are left.

    The other columns are empty where they are damaged. Lost rows can be restored from the results.
    """
    groups = []
    with suppress(*DAMAGE):
        file = pq.ParquetFile(BytesIO(content))
        for group in range(file.num_row_groups):
            columns = {}
            for name in schema.names:
                with suppress(*DAMAGE):
                    part = pa.schema([schema.field(name)])
                    columns[name] = checked(file.read_row_group(group, [name]), part)[name]
            if columns.keys() >= set(ALWAYS):
                groups.append(checked(pa.table(columns), schema))
    return pa.concat_tables(groups) if groups else schema.empty_table()
