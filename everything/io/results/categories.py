"""The classes of annotations, imported or of texts: DIR/categories.json of a results folder.

Annotations name their class (`category`). The file keeps what they do not say: ids, classes above,
and classes without annotations, so that exports have the classes of the import or the recipe.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from everything.core.file_names import printable
from everything.errors import InputError, reason_of
from everything.io.storage.storage import Storage

FILE = "categories.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Category:
    """A class: its id, its name, and the name of the class above it."""

    id: int
    name: str
    supercategory: str = ""


def sampler_categories(sampler: Mapping[str, Any]) -> list[Category]:
    """Return the classes that a sampler's settings name as `concepts`, numbered from 1.

    sampler: The settings; those of a pair have the settings of both.
    """
    names = dict.fromkeys(_concepts(sampler))
    return [Category(number, name) for number, name in enumerate(names, 1)]


def _concepts(sampler: Mapping[str, Any]) -> Iterator[str]:
    for key, value in sampler.items():
        if isinstance(value, Mapping):
            yield from _concepts(value)
        elif key == "concepts" and isinstance(value, list):
            yield from map(str, value)


def read_categories(folder: Storage) -> list[Category]:
    """Return the classes of a results folder, sorted by their ids; none if it has no such file.

    Raises:
        InputError: The file cannot be read.
    """
    content = folder.read(FILE)
    if content is None:
        return []
    try:
        found = [Category(int(c["id"]), str(c["name"]), str(c.get("supercategory", "")))
                 for c in json.loads(content)["categories"]]  # fmt: skip
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        where = printable(f"{folder.root}/{FILE}")
        raise InputError(
            f"{where}: not a list of classes ({reason_of(error)}): delete it to do without"
        ) from error
    return merged([], found)


def add_categories(folder: Storage, new: Iterable[Category]) -> None:
    """Add classes to those of a results folder."""
    before = read_categories(folder)
    after = merged(before, new)
    if after != before:
        folder.write(FILE, [_content(after)])


def remove(folder: Storage) -> None:
    """Delete the file; one that was edited, or is somebody else's, is set aside.

    It cannot stay: the classes would be taken for those of the next results.
    """
    content = folder.read(FILE)
    if content is None:
        return
    try:
        is_as_written = content == _content(read_categories(folder))
    except InputError:
        is_as_written = False
    if is_as_written:
        folder.delete(FILE)
    else:
        aside = folder.set_aside(FILE)
        _log.warning(
            "%s/%s: not as this program wrote it: set aside as %s",
            printable(folder.root), FILE, printable(aside),
        )  # fmt: skip


def _content(categories: Iterable[Category]) -> bytes:
    text = json.dumps({"categories": [asdict(category) for category in categories]}, indent=1)
    return text.encode("ascii") + b"\n"


def merged(first: Iterable[Category], more: Iterable[Category]) -> list[Category]:
    """Return the classes of both, sorted by id; names are unique, and a taken id is replaced."""
    by_id = {category.id: category for category in first}
    names = {category.name for category in by_id.values()}
    for category in more:
        if category.name not in names:
            number = category.id if category.id not in by_id else max(by_id) + 1
            names.add(category.name)
            by_id[number] = Category(number, category.name, category.supercategory)
    return [by_id[number] for number in sorted(by_id)]
