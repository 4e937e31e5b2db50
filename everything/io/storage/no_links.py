"""Folders below a root, opened without following links.

A link inside an output folder leads to files of others: nothing is written, moved or deleted
through it. The root itself may be a link, since the user named it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened_folder(root: Path, folder: str = "", create: bool = False) -> Iterator[int]:
    """Open a folder and yield its descriptor, for the `dir_fd` arguments of `os`.

    Args:
        root: The folder that exists.
        folder: The folder below it, with "/" between parts; "" for the root.
        create: Create what is missing below the root.

    Raises:
        OSError: It does not exist, or a part of it is a link or a file.
    """
    here = os.open(root, _FOLDER)
    try:
        for part in folder.split("/") if folder else ():
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=here)
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


@contextmanager
def opened_parent(root: Path, name: str, create: bool = False) -> Iterator[tuple[int, str]]:
    """Open the folder of a file; yield its descriptor and the last part of the file's name.

    Raises:
        OSError: As `opened_folder`.
    """
    folder, _, last = name.rpartition("/")
    with opened_folder(root, folder, create) as at:
        yield at, last


def open_regular(root: Path, name: str, flags: int) -> int:
    """Open a file that is neither a link nor a pipe or device; return its descriptor.

    Raises:
        OSError: It cannot be opened, or is something else than a regular file.
    """
    with opened_parent(root, name) as (at, last):
        # A pipe that nobody reads would block for ever.
        guarded = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(last, guarded, 0o666, dir_fd=at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(0, "not a regular file")
    return file
