"""Blocks of Ray Data: tasks on their way to the workers, and manifest rows on their way back.

Names, paths and messages are binary columns: file names that are not UTF-8 are lone surrogates in
Python, which Arrow's strings cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from everything import errors
from everything.errors import EverythingError
from everything.io.images.sources import Source
from everything.io.results.manifest_rows import Row
from everything.jobs.annotator import Task

_SOURCE_FIELDS = [
    ("folder", pa.binary()),
    ("name", pa.binary()),
    ("size", pa.int64()),
    ("file", pa.binary()),
    ("start", pa.int64()),
]
_TASKS = pa.schema([*_SOURCE_FIELDS, ("attempt", pa.int64()), ("crashes", pa.int64())])
_ROW_FIELDS = [
    ("name", pa.binary()),
    ("status", pa.string()),
    ("image_id", pa.int64()),
    ("digest", pa.string()),
    ("host", pa.string()),
    ("attempt", pa.int64()),
    ("started", pa.float64()),
    ("finished", pa.float64()),
    ("folder", pa.binary()),
    ("file", pa.binary()),
    ("start", pa.int64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("seconds", pa.map_(pa.string(), pa.float64())),
    ("counts", pa.map_(pa.string(), pa.int64())),
    ("source_bytes", pa.int64()),
    ("source_mtime_ns", pa.int64()),
    ("source_hash", pa.int64()),
    ("bytes", pa.int64()),
    ("mtime_ns", pa.int64()),
    ("shard", pa.binary()),
    ("error", pa.binary()),
    ("notes", pa.list_(pa.binary())),
]
# A block is either rows, or one line with the class and the text of the error that ends the job:
# of an exception raised in a worker, Ray would hand on the text only.
_ROWS = pa.schema([*_ROW_FIELDS, ("error_class", pa.string()), ("error_text", pa.binary())])


def block_of_tasks(tasks: Iterable[Task]) -> pa.Table:
    """Return tasks as a block, one line each: names and numbers, no pixels."""
    return _table(
        [
            task.source._asdict() | {"attempt": task.attempt, "crashes": task.crashes}
            for task in tasks
        ],
        _TASKS,
    )


def tasks_in(block: pa.Table) -> list[Task]:
    """Return the tasks of a block."""
    tasks = []
    for line in _lines(block, _TASKS):
        attempt, crashes = line.pop("attempt"), line.pop("crashes")
        tasks.append(Task(Source(**line), attempt, crashes))
    return tasks


def block_of_rows(rows: Iterable[Row]) -> pa.Table:
    """Return the manifest rows of a block of tasks."""
    return _table([vars(row) for row in rows], _ROWS)


def block_of_error(error: EverythingError, host: str) -> pa.Table:
    """Return a block that ends the job: `rows_in` raises the error, with the host's name."""
    line = {"error_class": type(error).__name__, "error_text": f"on {host}: {error}"}
    return _table([line], _ROWS)


def rows_in(block: pa.Table) -> Iterator[Row]:
    """Yield the rows that a worker returned; raises the error that stopped it."""
    for line in _lines(block, _ROWS):
        error_class, text = line.pop("error_class"), line.pop("error_text")
        if error_class is not None:
            raise getattr(errors, error_class)(text)
        yield Row(**line)


def _table(lines: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = [
        pa.array([_encoded(line.get(field.name), field.type) for line in lines], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _lines(block: pa.Table, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    columns = [block[field.name].to_pylist() for field in schema]
    for values in zip(*columns, strict=True):
        yield {
            field.name: _decoded(value, field.type)
            for field, value in zip(schema, values, strict=True)
        }


def _encoded(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_binary(kind):
        return value.encode("utf-8", "surrogatepass")
    if pa.types.is_list(kind):
        return [_encoded(item, kind.value_type) for item in value]
    return list(value.items()) if pa.types.is_map(kind) else value


def _decoded(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_binary(kind):
        return value.decode("utf-8", "surrogatepass")
    if pa.types.is_list(kind):
        return [_decoded(item, kind.value_type) for item in value]
    return dict(value) if pa.types.is_map(kind) else value
