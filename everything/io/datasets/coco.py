"""COCO and LVIS files of any size, read image by image: the only reader of them.

The annotations of one image may be anywhere in such a file. The file is therefore read as a stream
into a temporary database on disk, which finds the annotations of each image.
"""

from __future__ import annotations

import codecs
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any, BinaryIO

from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.rle import compressed
from everything.errors import InputError, StoreError, reason_of

_TABLES = """
create table image (id text, name text, height integer, width integer);
create table annotation (image text, content text);
"""
_READ = 0.5  # the part of the progress that is reading; the caller's work on the images is the rest
_Tree = dict[str, Any]
_Progress = Callable[[float], None]


@dataclass(frozen=True)
class CocoImage:
    """One image of a COCO file.

    Attributes:
        name: `file_name`, or the last two parts of `coco_url`, which is all that LVIS has.
        size: (H, W) in px, as the file says.
        annotations: as in the file, but `segmentation` is always compressed run lengths of `size`
            (`everything.core.rle.Rle`), and `category` is the name of the class, if it has one.
        skipped: why annotations were left out, one reason for each.
    """

    name: str
    size: Size
    annotations: list[_Tree]
    skipped: tuple[str, ...] = ()


def read_coco(file: Path, on_progress: Callable[[int], None] | None = None) -> Iterator[CocoImage]:
    """Yield the images of a COCO or LVIS file, in its order, with their annotations.

    Memory does not grow with the file.

    Args:
        file: JSON with `images` and `annotations`.
        on_progress: called with how much of the file is done, in bytes.

    Raises:
        InputError: before the first image, if it is not a COCO file.
        StoreError: if the disk for temporary files is full.
    """
    size = file.stat().st_size
    report = on_progress or (lambda done: None)
    # SQLite deletes a database without a name when the connection closes.
    with closing(sqlite3.connect("")) as data:
        try:
            _fill(data, file, lambda part: report(round(size * _READ * part)))
        except (
            OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
            RecursionError,
        ) as error:  # fmt: skip
            reason = printable(f"not a COCO file ({type(error).__name__}: {reason_of(error)})")
            raise InputError(f"{printable(file)}: {reason}: give a COCO file with masks") from error
        except sqlite3.Error as error:
            raise StoreError(
                f"{gettempdir()}: no room for a temporary copy of {printable(file)} "
                f"({reason_of(error)}): set TMPDIR to a larger disk"
            ) from error
        (count,) = data.execute("select count(*) from image").fetchone()
        rows = data.execute("select id, name, height, width from image order by rowid")
        for number, (key, name, height, width) in enumerate(rows):
            report(round(size * (_READ + (1 - _READ) * number / count)))
            found = data.execute(
                "select content from annotation where image = ? order by rowid", (key,)
            )
            yield _image(name, (height, width), [json.loads(content) for (content,) in found])


def _image(name: str, size: Size, rows: list[_Tree]) -> CocoImage:
    annotations: list[_Tree] = []
    skipped: list[str] = []
    for number, row in enumerate(rows):
        try:
            code = compressed(row["segmentation"], size)
        except KeyError:
            skipped.append(f"annotation {number}: it has no segmentation")
        except ValueError as error:
            skipped.append(f"annotation {number}: {error}")
        else:
            annotations.append(row | {"segmentation": code})
    return CocoImage(name, size, annotations, tuple(skipped))


def _fill(data: sqlite3.Connection, file: Path, report: _Progress) -> None:
    """Read a file three times, since its lists may come in any order."""
    data.executescript(_TABLES)
    with file.open("rb") as stream:
        data.executemany(
            "insert into image values (?, ?, ?, ?)",
            (
                (_key(image["id"]), _name(image), int(image["height"]), int(image["width"]))
                for image in _items(stream, "images", lambda part: report(part / 3))
            ),
        )
        rows = _items(stream, "categories", lambda part: report((1 + part) / 3))
        classes = {row["id"]: row["name"] for row in rows}

        def annotations() -> Iterator[tuple[str, str]]:
            for row in _items(stream, "annotations", lambda part: report((2 + part) / 3)):
                name = classes.get(row.get("category_id"))
                content = row | ({"category": name} if name else {})
                yield _key(row["image_id"]), json.dumps(content, separators=(",", ":"))

        data.executemany("insert into annotation values (?, ?)", annotations())
        for table in ("image", "annotation"):
            is_empty = data.execute(f"select 1 from {table} limit 1").fetchone() is None
            if is_empty and not _has_list(stream, f"{table}s"):
                raise KeyError(f"{table}s")
    data.execute("create index by_image on annotation (image)")
    lost = "select image from annotation where image not in (select id from image) limit 1"
    if (row := data.execute(lost).fetchone()) is not None:
        raise KeyError(f"image {row[0]}")


def _items(stream: BinaryIO, name: str, report: _Progress) -> Iterator[Any]:
    """Yield what is in one of the lists of a file; raises ValueError where it is not JSON."""
    import ijson

    size = _rewind(stream)
    try:
        for row in ijson.items(stream, f"{name}.item", use_float=True):
            yield row
            report(stream.tell() / size)
    except ijson.JSONError as error:
        raise ValueError(str(error)) from error


def _has_list(stream: BinaryIO, name: str) -> bool:
    """Whether a JSON file has a list of this name at its top; raises ValueError if it is none."""
    import ijson

    _rewind(stream)
    try:
        return any(event[:2] == (name, "start_array") for event in ijson.parse(stream))
    except ijson.JSONError as error:
        raise ValueError(str(error)) from error


def _rewind(stream: BinaryIO) -> int:
    """Go to the beginning, behind a byte order mark, and return the size in bytes, at least 1."""
    size = stream.seek(0, 2)
    stream.seek(0)
    if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        stream.seek(0)
    return max(1, size)


def _key(name: object) -> str:
    """An id of any kind as text, equal for equal ones only; tables make 3.0 of 3."""
    return json.dumps(int(name) if isinstance(name, float) and name.is_integer() else name)


def _name(image: _Tree) -> str:
    """LVIS has only COCO's addresses, http://images.cocodataset.org/val2017/NAME.jpg."""
    if "file_name" in image:
        return str(image["file_name"])
    return "/".join(str(image["coco_url"]).rsplit("/", 2)[-2:])


def is_coco(file: Path) -> bool:
    """Return whether a file is JSON with a list of images and one of annotations."""
    try:
        with file.open("rb") as stream:
            return all(_has_list(stream, name) for name in ("images", "annotations"))
    except (ValueError, OSError):
        return False


def image_folder(file: Path, name: str) -> Path | None:
    """Return the folder near a COCO file in which its image `name` is, None if it is in none."""
    home = file.absolute().parent
    above = home.parent
    # Where tools put them, likeliest first.
    for folder in (home / "images", home, above / "images" / "default", above, above / "images"):
        with suppress(OSError):  # a name that is too long, a folder that may not be read
            if (folder / name).is_file():
                return folder
    return None
