"""The images of a COCO file in a database: which rows are one image, which are ambiguous."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from everything.io.datasets.image_names import ImageFinder
from everything.io.datasets.reading_tally import ReadingTally

# identity: see image_names; same: equal for two spellings of one name; name: what the image is
# called here; main: the first row of the same image, null if it cannot be used.
TABLES = """
drop table if exists image;
drop table if exists annotation;
create table image (
    number integer primary key, id text, identity text, same text, name text, folder text,
    height integer, width integer, main integer
);
create table annotation (image text, content text);
"""
NO_IMAGE = "without an image"
REFUSED = "of images that cannot be used"
# Of annotations without an image: ids that are text here and a number there.
_OTHER_FORM = """
update annotation set image = other_form(image) where image not in (select id from image)
and other_form(image) in (select id from image)
"""
_SAME_ID = """
select number from image where id in
(select id from image group by id having count(distinct main) > 1)
"""
_TWO_SIZES = """
select number from image where main in (
    select main from image group by main having count(distinct height || ' ' || width) > 1
)
"""
_SAME_NAME = """
select number from image where name in
(select name from image where main = number group by name having count(*) > 1)
"""
# A file whose name ends like those of two images may be neither's.
_TWO_GUESSES = """
delete from place where is_guess and (folder, name) in
(select folder, name from place group by folder, name having count(*) > 1)
"""


def check_images(data: sqlite3.Connection, finder: ImageFinder | None, tally: ReadingTally) -> None:
    """Set the main row, the name and the folder of each image, and refuse what is ambiguous.

    Args:
        data: The tables, filled but for `main` and `folder`.
        finder: Finds the images on disk; None: they are not looked for.
        tally: Counts what is refused, guessed and not found.
    """
    for name, columns in (("ids", "id"), ("spellings", "same")):
        data.execute(f"create index {name} on image ({columns})")
    data.execute("create index annotated on annotation (image)")
    data.execute(
        "update image set main = "
        "(select min(number) from image as first where first.same = image.same)"
    )
    data.create_function("other_form", 1, other_form, deterministic=True)
    for _ in range(data.execute(_OTHER_FORM).rowcount):
        tally.mend("image_id as text or as a number")
    _refuse(data, _SAME_ID, "another image has the same id: give each its own", tally)
    _refuse(data, _TWO_SIZES, "it is listed with two sizes: keep one of them", tally)
    if finder is not None:
        _find_images(data, finder, tally)
    _refuse(data, _SAME_NAME, "another image has the same name here: rename one", tally)
    data.execute("create index mains on image (main)")
    for reason, which in (
        (NO_IMAGE, "not in (select id from image)"),
        (REFUSED, "in (select id from image where main is null)"),
    ):
        count = _count(data, f"select count(*) from annotation where image {which}")
        if count:
            tally.leave_out(reason, f"{count:,} annotations", count=count)


def other_form(key: str) -> str:
    """Return the key of an id that is written as text for that of a number, and the reverse."""
    return key[1:-1] if key.startswith('"') else f'"{key}"'


def _refuse(data: sqlite3.Connection, which: str, reason: str, tally: ReadingTally) -> None:
    for (number,) in data.execute(which).fetchall():
        about = "select identity from image where number = ?"
        tally.refuse_image(data.execute(about, (number,)).fetchone()[0], reason)
        data.execute("update image set main = null where number = ?", (number,))


def _find_images(data: sqlite3.Connection, finder: ImageFinder, tally: ReadingTally) -> None:
    def places() -> Iterator[tuple[int, str, str, bool]]:
        wanted = "select number, identity from image where main = number"
        for number, identity in data.execute(wanted):
            if (found := finder.find(identity)) is not None:
                yield number, str(found.folder), found.name, found.is_guess

    data.execute("create table place (number integer primary key, folder, name, is_guess)")
    data.executemany("insert into place values (?, ?, ?, ?)", places())
    data.execute(_TWO_GUESSES)
    data.execute(
        "update image set (folder, name) = (place.folder, place.name) "
        "from place where place.number = image.number"
    )
    tally.guessed_images += _count(data, "select count(*) from place where is_guess")
    tally.images_not_found += _count(
        data, "select count(*) from image where main = number and folder is null"
    )


def _count(data: sqlite3.Connection, query: str) -> int:
    return int(data.execute(query).fetchone()[0])
