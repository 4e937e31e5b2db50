"""COCO and LVIS files of any size, read image by image: the only reader of them.

The annotations of one image may be anywhere in such a file. The file is therefore read as a stream
into a temporary database on disk, which finds the annotations of each image. Ids and names of all
images are checked there before the first image is yielded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from everything.core.file_names import is_inside, printable
from everything.core.geometry import Size
from everything.errors import ImageError, InputError, StoreError, reason_of
from everything.io.datasets.annotations import (
    NOT_A_RECORD,
    AnnotatedImage,
    read_annotations,
    size_in,
)
from everything.io.datasets.coco_images import NO_IMAGE, TABLES, check_images, other_form
from everything.io.datasets.image_names import ImageFinder, identity_of, image_name, same_name
from everything.io.datasets.json_stream import kind_of, read_items
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.images.header import read_size
from everything.io.results.categories import Category

_READ = 0.5  # the part of the progress that is reading; the caller's work on the images is the rest
NO_SIZE = "an image without a size has that of its file"
NO_CLASS = "a class that the file does not name is called by its id"
_NULL = "{} are null, read as an empty list"
_Tree = dict[str, Any]
_Progress = Callable[[float], None]


@dataclass
class CocoReader:
    """Reads the images of a COCO or LVIS file, in its order; memory does not grow with the file.

    An image is called by its name relative to its folder if it was found on disk, else by what
    `image_names.image_name` makes of its name in the file.

    Attributes:
        file: JSON with `images` and `annotations`.
        finder: Finds the images on disk; None: they are not looked for.
        tally: Counts what is left out, mended or guessed.
        on_progress: Called with how much of the file is done, in bytes.
        categories: The classes, in the order of their ids; there once the first image is.
    """

    file: Path
    finder: ImageFinder | None = None
    tally: ReadingTally = field(default_factory=ReadingTally)
    on_progress: Callable[[int], None] = lambda done: None
    categories: list[Category] = field(default_factory=list)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        """Yield the images.

        Raises:
            InputError: Before the first image, if it is not a COCO file.
            StoreError: If the disk for temporary files is full.
        """
        # SQLite deletes a database without a name when the connection closes.
        with closing(sqlite3.connect("")) as data:
            try:
                self._fill(data)
                check_images(data, self.finder, self.tally)
            except (OSError, ValueError, LookupError, RecursionError) as error:
                reason = printable(f"not a COCO file ({type(error).__name__}: {reason_of(error)})")
                raise InputError(
                    f"{printable(self.file)}: {reason}: give a COCO file with masks"
                ) from error
            except sqlite3.Error as error:
                raise StoreError(
                    f"{gettempdir()}: no room for a temporary copy of {printable(self.file)} "
                    f"({reason_of(error)}): set TMPDIR to a larger disk"
                ) from error
            yield from self._images(data)

    def _images(self, data: sqlite3.Connection) -> Iterator[AnnotatedImage]:
        (count,) = data.execute("select max(number) from image").fetchone()
        rows = data.execute(
            "select number, name, folder, height, width from image where main = number "
            "order by number"
        )
        for number, name, folder, height, width in rows:
            self._report(_READ + (1 - _READ) * number / count)
            contents = data.execute(
                "select content from annotation where image in "
                "(select id from image where main = ?) order by rowid",
                (number,),
            )
            found = [json.loads(content) for (content,) in contents]
            records = read_annotations(found, (height, width), name, self.tally)
            home = None if folder is None else Path(folder)
            yield AnnotatedImage(name, (height, width), records, home)

    def _report(self, part: float) -> None:
        self.on_progress(round(self.file.stat().st_size * part))

    def _fill(self, data: sqlite3.Connection) -> None:
        before = deepcopy(self.tally)
        try:
            self._read_lists(data, with_nan=False)
        except ValueError:
            self.tally.reset_to(before)
            self._read_lists(data, with_nan=True)

    def _read_lists(self, data: sqlite3.Connection, with_nan: bool) -> None:
        """Read the file three times, since its lists may come in any order."""
        data.executescript(TABLES)

        def items(name: str, third: int) -> Iterator[Any]:
            def report(part: float) -> None:
                self._report(_READ * (third + part) / 3)

            return read_items(self.file, name, report, with_nan)

        columns = "id, identity, same, name, height, width"
        data.executemany(
            f"insert into image ({columns}) values (?, ?, ?, ?, ?, ?)",
            self._image_rows(items("images", 0)),
        )
        classes = _categories(items("categories", 1), self.tally)
        self.categories = list(classes.values())
        names = {key: row.name for key, row in classes.items()}
        data.executemany(
            "insert into annotation values (?, ?)",
            self._annotation_rows(items("annotations", 2), names),
        )
        for table in ("image", "annotation"):
            if data.execute(f"select 1 from {table} limit 1").fetchone() is None:
                self._check_empty(f"{table}s", with_nan)
        if not self.categories and kind_of(self.file, "categories", with_nan) == "null":
            self.tally.mend(_NULL.format("categories"))

    def _check_empty(self, name: str, with_nan: bool) -> None:
        """Check that a list without a usable item is one; null counts as an empty one."""
        kind = kind_of(self.file, name, with_nan)
        if kind == "nothing":
            raise ValueError(f"it has no list of {name}")
        if kind == "null":
            self.tally.mend(_NULL.format(name))
        elif name == "images" and self.tally.bad_images:
            raise ValueError(self.tally.examples[0])

    def _image_rows(self, images: Iterator[Any]) -> Iterator[tuple[str, str, str, str, int, int]]:
        for number, image in enumerate(images):
            try:
                identity = identity_of(image)
                name = image_name(identity)
                if not is_inside(name):
                    raise ValueError("its name is no name of a file")
                height, width = self._size(image, identity)
                yield _key(image["id"]), identity, same_name(identity), name, height, width
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                lacks = isinstance(error, KeyError)
                what = f"it has no {error.args[0]}" if lacks else reason_of(error)
                self.tally.refuse_image(f"{self.file}: image {number}", what)

    def _size(self, image: dict[str, Any], identity: str) -> Size:
        """The size that is written, or else that of the file: VIA writes none, 0 or -1."""
        try:
            return size_in(image)
        except (ValueError, TypeError, LookupError):
            found = None if self.finder is None else self.finder.find(identity)
            if found is None:
                raise
        try:
            size = read_size(found.folder / found.name)
        except ImageError as error:
            raise ValueError(str(error)) from error
        self.tally.mend(NO_SIZE)
        return size

    def _annotation_rows(
        self, annotations: Iterator[Any], names: dict[str, str]
    ) -> Iterator[tuple[str, str]]:
        for number, row in enumerate(annotations):
            if not isinstance(row, dict):
                self.tally.leave_out(NOT_A_RECORD, f"annotation {number}")
            elif row.get("image_id") is None:
                self.tally.leave_out(NO_IMAGE, f"annotation {number}")
            else:
                row.pop("category", None)
                if (key := row.get("category_id")) is not None:
                    own = _key(key)
                    name = names.get(own) or names.get(other_form(own))
                    if name is None:
                        self.tally.mend(NO_CLASS)
                    row["category"] = name or str(key)
                yield _key(row["image_id"]), json.dumps(row, separators=(",", ":"))


def _categories(rows: Iterator[Any], tally: ReadingTally) -> dict[str, Category]:
    """The classes by their keys; one without a name is called by its id, equal names differ."""
    found: dict[str, Category] = {}
    names: set[str] = set()
    for row in rows:
        key = row.get("id") if isinstance(row, dict) else None
        if _key(key) in found:
            tally.mend("a category whose id another one has: the first one's name is used")
        elif isinstance(row, dict):
            name = printable(str(row.get("name") or key))
            name = f"{name} ({key})" if name in names else name
            names.add(name)
            number = key if isinstance(key, int) else len(found) + 1
            found[_key(key)] = Category(number, name, str(row.get("supercategory") or ""))
    return found


def _key(name: object) -> str:
    """An id of any kind as text, equal for equal ones only; tables make 3.0 of 3."""
    return json.dumps(int(name) if isinstance(name, float) and name.is_integer() else name)


def is_coco(file: Path) -> bool:
    """Tell whether a file is JSON with a list of images and one of annotations.

    Raises:
        InputError: Its text or its compressed data cannot be read.
    """
    for with_nan in (False, True):  # slower, and seldom needed
        try:
            return all(kind_of(file, n, with_nan) != "nothing" for n in ("images", "annotations"))
        except ValueError:
            continue
        except OSError:
            break
    return False
