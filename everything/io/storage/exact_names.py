"""File systems that take A.jpg and a.jpg for one name, such as macOS's: neither replaces the other.

There a new file gets its name by a hard link, which fails if the name is taken, so that it does not
matter which process comes first.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unicodedata import normalize


def ignores_case(root: Path, entry: str) -> bool:
    """Tell whether a file system takes upper and lower case for the same.

    Args:
        root: A folder on it.
        entry: The name of something in the folder, with a letter in it.
    """
    try:
        return (root / entry).samefile(root / entry.swapcase())
    except OSError:
        return False


def place(temporary: str, name: str, root: Path, folders: tuple[int, int]) -> None:
    """Give a file its name, as `os.replace` does, unless that would replace one of another name.

    Args:
        temporary: Its name so far.
        name: Its name relative to the root, with "/" between parts.
        root: The folder that both are below.
        folders: The open folders of the temporary name and of the name.

    Raises:
        FileExistsError: A file is there whose name differs in upper and lower case only.
        OSError: As `os.replace`.
    """
    (source, target), last = folders, name.rpartition("/")[2]
    try:
        os.link(temporary, last, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError as error:  # the name is taken, or this file system has no hard links
        is_taken = error.errno == errno.EEXIST or os.path.lexists(root / name)
        if is_taken and not _is_spelled(root, name):
            raise FileExistsError(
                errno.EEXIST, "another name differs in upper and lower case only"
            ) from error
        os.replace(temporary, last, src_dir_fd=source, dst_dir_fd=target)
    else:
        os.unlink(temporary, dir_fd=source)


def _is_spelled(root: Path, name: str) -> bool:
    """Tell whether each part of a name is in its folder as it is written here."""
    here = root
    for part in name.split("/"):
        # Some file systems change the form of umlauts.
        if normalize("NFC", part) not in {normalize("NFC", one.name) for one in here.iterdir()}:
            return False
        here /= part
    return True
