"""Names and sizes of the files in a remote folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from typing import Any

from everything.io.storage.locations import with_retries

_Entry = tuple[str, str, int]  # key, name, and size or _FOLDER
_FOLDER = -1


def walk(
    files: Any, home: str, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, int]]:
    """Yield the names of files below `home`, relative to it, with sizes in bytes.

    The order is that in which everything/io/images/sources.py walks a folder on disk: entries of a
    folder by the bytes of their names. At each level the entries of one folder are in memory.
    Objects whose keys have an empty part (`a//b.jpg`) are left out: this program writes none.

    Args:
        files: The fsspec file system.
        home: The folder in it; if it does not exist, nothing is yielded.
        wanted: Selects files, given the last part of their names.

    Raises:
        OSError: A folder cannot be listed.
    """
    for _, name, size in _walk(files, home, wanted, with_empty_parts=False):
        yield name, size


def walk_images(
    files: Any, home: str, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, str, int]]:
    """Yield key, name and size in bytes of the files below `home`, as `walk` does.

    The name is the key, with something in the place of its empty parts, such as `a/_/b.jpg`. No two
    objects have one name.

    Raises:
        OSError: A folder cannot be listed.
    """
    yield from _walk(files, home, wanted, with_empty_parts=True)


def _walk(
    files: Any, home: str, wanted: Callable[[str], bool], with_empty_parts: bool
) -> Iterator[_Entry]:
    pending: list[_Entry] = [("", "", _FOLDER)]
    while pending:
        key, name, size = pending.pop()
        if size != _FOLDER:
            yield key, name, size
            continue
        folder = f"{home}/{key}" if key else home
        entries, has_hidden = _entries(files, folder)
        prefix = f"{key}/" if key else ""
        kept = [
            (prefix + last, prefix + last, size)
            for last, size in entries
            if size == _FOLDER or wanted(last)
        ]
        if has_hidden and with_empty_parts:
            taken = {last for last, _ in entries}
            hidden = _below_empty_part(files, folder, prefix, taken)
            kept += [entry for entry in hidden if wanted(entry[0].rsplit("/", 1)[-1])]
        pending += sorted(kept, key=lambda entry: os.fsencode(entry[1]), reverse=True)


def _below_empty_part(files: Any, folder: str, prefix: str, taken: set[str]) -> Iterator[_Entry]:
    """The objects whose keys go on with an empty part behind a folder, which is no folder for
    fsspec. taken: the names in the folder."""
    found = with_retries(lambda: files.find(folder, prefix="/", detail=True))
    start = f"{folder.rstrip('/')}/"
    keys = sorted(path.removeprefix(start) for path in found if path.startswith(f"{start}/"))
    first = without_empty_parts("", taken)
    plain = {key[1:] for key in keys if "//" not in key}
    for key in keys:
        name = without_empty_parts(key[1:], plain)
        plain.add(name)
        size = int(found[start + key]["size"] or 0)
        yield f"{prefix}{key}", f"{prefix}{first}/{name}", size


def without_empty_parts(name: str, taken: Container[str] = ()) -> str:
    """Return a name that a file can have for the key of an object such as `a//b.jpg`.

    Args:
        name: Parts with "/" between them.
        taken: Names that must not come out, unless `name` has no empty part.
    """
    filler = "_"
    while True:
        found = "/".join(part or filler for part in name.split("/"))
        if found == name or found not in taken:
            return found
        filler += "_"


def _entries(files: Any, folder: str) -> tuple[list[tuple[str, int]], bool]:
    """The entries of a folder: last part of the name, and size; and whether there may be objects
    with an empty part behind it."""
    try:
        found = with_retries(lambda: files.ls(folder, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        return [], False
    entries, has_hidden = [], False
    for entry in found:
        last = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        is_folder = entry["type"] == "directory"
        if entry["name"].rstrip("/") == folder.rstrip("/"):
            # A file of that name, the empty object that marks the folder, or what an empty part
            # looks like.
            has_hidden |= is_folder
            continue
        entries.append((last, _FOLDER if is_folder else int(entry["size"] or 0)))
    return entries, has_hidden
