"""COCO files of any size, photo by photo.

The annotations of a photo may be anywhere in such a file. So it is read as a stream, and what is
read put down in a temporary database on disk that finds it again by photo.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import gettempdir
from typing import Any, BinaryIO

from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.errors import InputError, StoreError

_TABLES = """
create table photo (id text, name text, height integer, width integer);
create table mask (photo text, content text);
"""
_READ = 0.5  # the part of the work that is reading; writing results is the rest
Photo = tuple[str, Size, list[dict[str, Any]]]
Report = Callable[[int], None]


def photos_of(file: Path, report: Report) -> Iterator[Photo]:
    """Yield the name, size (H, W) px and annotations of every photo of a COCO file, in its order.

    The annotations have the name of their class besides, as `category`. report: called with what
    has been done of the file, in bytes. Memory does not grow with the file.
    Raises InputError, before there is a photo, if it is not COCO's, StoreError if the disk is full.
    """
    size = file.stat().st_size
    # Without a name it is a file that vanishes with the connection.
    with closing(sqlite3.connect("")) as data:
        try:
            _fill(data, file, lambda part: report(round(size * _READ * part)))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = printable(f"neither a tar nor a COCO file ({type(error).__name__}: {error})")
            raise InputError(
                f"{printable(file)}: {reason}: give SA-1B tars or a COCO file"
            ) from error
        except sqlite3.Error as error:
            raise StoreError(
                f"{gettempdir()}: cannot hold what {printable(file)} has ({error}): set TMPDIR"
            ) from error
        (count,) = data.execute("select count(*) from photo").fetchone()
        rows = data.execute("select id, name, height, width from photo order by rowid")
        for number, (key, name, height, width) in enumerate(rows):
            report(round(size * (_READ + (1 - _READ) * number / count)))
            found = data.execute("select content from mask where photo = ? order by rowid", (key,))
            yield name, (height, width), [json.loads(content) for (content,) in found]


def _fill(data: sqlite3.Connection, file: Path, report: Callable[[float], None]) -> None:
    """Read a file three times, since its parts may come in any order."""
    data.executescript(_TABLES)
    with file.open("rb") as stream:
        data.executemany(
            "insert into photo values (?, ?, ?, ?)",
            (
                (_key(image["id"]), str(image["file_name"]), int(image["height"]),
                 int(image["width"]))
                for image in _items(stream, "images", lambda part: report(part / 3))
            ),
        )  # fmt: skip
        if not data.execute("select 1 from photo limit 1").fetchone():
            raise KeyError("images")
        rows = _items(stream, "categories", lambda part: report((1 + part) / 3))
        classes = {row["id"]: row["name"] for row in rows}

        def masks() -> Iterator[tuple[str, str]]:
            for row in _items(stream, "annotations", lambda part: report((2 + part) / 3)):
                name = classes.get(row.get("category_id"))
                content = row | ({"category": name} if name else {})
                yield _key(row["image_id"]), json.dumps(content, separators=(",", ":"))

        data.executemany("insert into mask values (?, ?)", masks())
    data.execute("create index by_photo on mask (photo)")
    lost = "select photo from mask where photo not in (select id from photo) limit 1"
    if (row := data.execute(lost).fetchone()) is not None:
        raise KeyError(f"image {row[0]}")


def _items(stream: BinaryIO, name: str, report: Callable[[float], None]) -> Iterator[Any]:
    """Yield what is in one of the lists of a file; raises ValueError where it is not JSON."""
    import ijson

    stream.seek(0, 2)
    size = max(1, stream.tell())
    stream.seek(0)
    try:
        for row in ijson.items(stream, f"{name}.item", use_float=True):
            yield row
            report(stream.tell() / size)
    except ijson.JSONError as error:
        raise ValueError(str(error)) from error


def _key(name: object) -> str:
    """An id of any kind as text, equal for equal ones only; tables make 3.0 of 3."""
    return json.dumps(int(name) if isinstance(name, float) and name.is_integer() else name)
