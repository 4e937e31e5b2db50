"""Names and sizes of the files in a remote folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from everything.io.storage.locations import with_retries


def walk(
    files: Any, home: str, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, int]]:
    """Yield the names of files below `home`, relative to it, with sizes in bytes.

    The order is that in which everything/io/images/sources.py walks a folder on disk: entries of a
    folder by the bytes of their names. At each level the entries of one folder are in memory.

    Args:
        files: The fsspec file system.
        home: The folder in it; if it does not exist, nothing is yielded.
        wanted: Selects files, given the last part of their names.

    Raises:
        OSError: A folder cannot be listed.
    """
    pending = [("", -1)]
    while pending:
        name, size = pending.pop()
        if size >= 0:
            yield name, size
            continue
        entries = _entries(files, f"{home}/{name}" if name else home)
        prefix = f"{name}/" if name else ""
        kept = [
            (prefix + last, size)
            for last, size in entries
            if size < 0 or wanted(last)
        ]  # fmt: skip
        pending += sorted(kept, key=lambda entry: os.fsencode(entry[0]), reverse=True)


def _entries(files: Any, folder: str) -> list[tuple[str, int]]:
    """The entries of a folder: last part of the name, and size (-1 for folders)."""
    try:
        found = with_retries(lambda: files.ls(folder, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        return []
    entries = []
    for entry in found:
        last = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        if entry["name"].rstrip("/") == folder.rstrip("/"):
            continue  # a file of that name, or the empty object that marks the folder
        is_folder = entry["type"] == "directory"
        entries.append((last, -1 if is_folder else int(entry["size"] or 0)))
    return entries
