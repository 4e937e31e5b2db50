"""Rows as tables, and what is left of a damaged table."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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

NAMES = [f"{n}.jpg" for n in range(6)]


def content(tmp_path: Path, *damaged: tuple[int, str], schema: pa.Schema = SCHEMA) -> bytes:
    """Six rows in three groups, with zeros over columns of groups."""
    rows = [Row(name, "done", 1, "d", "here", 1, 1.0, 2.0, error="e") for name in NAMES]
    table = table_of([flat_row(vars(row), tmp_path) for row in rows]).select(schema.names)
    buffer = BytesIO()
    pq.write_table(table, buffer, row_group_size=2)
    data = bytearray(buffer.getvalue())
    groups = pq.ParquetFile(buffer).metadata
    for group, name in damaged:
        part = groups.row_group(group).column(schema.names.index(name))
        start = part.dictionary_page_offset or part.data_page_offset
        data[start : start + part.total_compressed_size] = bytes(part.total_compressed_size)
    return bytes(data)


def test_a_damaged_column_is_empty_in_its_group_alone(tmp_path: Path) -> None:
    table = readable(content(tmp_path, (1, "error")), SCHEMA)
    assert table["name"].to_pylist() == NAMES
    assert table["error"].to_pylist() == ["e", "e", None, None, "e", "e"]


@pytest.mark.parametrize("column", ALWAYS)
def test_a_group_without_a_name_or_status_is_lost(tmp_path: Path, column: str) -> None:
    table = readable(content(tmp_path, (0, column)), SCHEMA)
    assert table["name"].to_pylist() == NAMES[2:]
    assert table.schema == SCHEMA


def test_the_columns_that_every_row_has_are_enough(tmp_path: Path) -> None:
    schema = pa.schema([SCHEMA.field(name) for name in ALWAYS])
    assert readable(content(tmp_path, schema=schema), schema)["name"].to_pylist() == NAMES


def test_nothing_is_left_of_what_is_no_table() -> None:
    assert readable(b"PAR1 or so", SCHEMA) == SCHEMA.empty_table()


def test_text_that_is_no_utf8_is_damage() -> None:
    offsets, text = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    schema = pa.schema([("name", pa.string())])
    table = pa.table([pa.StringArray.from_buffers(1, offsets, text)], schema)
    with pytest.raises(DAMAGE):
        checked(table, schema)


def test_a_row_knows_where_its_image_is_from_the_results(tmp_path: Path) -> None:
    about = {"folder": str(tmp_path / "photos")}
    row = Row("a.jpg", "done", 1, "d", "here", 1, 1.0, 2.0, **about)  # type: ignore[arg-type]
    assert flat_row(vars(row), tmp_path / "labels")["relative"] == "../photos"
    row.file = str(tmp_path / "b.tar")
    assert flat_row(vars(row), tmp_path / "labels")["relative"] == "../b.tar"
