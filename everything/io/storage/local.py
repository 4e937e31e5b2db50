"""Results in a folder on disk; nothing else writes there.

Files are written atomically. everything/io/storage/bucket.py has the same methods for an object
store.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from everything.core.file_names import is_inside, printable
from everything.errors import ImageError, StoreError
from everything.io.storage.storage import Stamp

# Files that are being written or removed. Readers of results do not look in here, and leftovers of
# a killed run are removed without walking through a million names.
_PARTIAL = ".partial"
_LOCK = ".lock"
_ATTEMPTS = 100  # to place a file in a folder that is being removed
# The name of one image is the cause; all others can be written.
_ABOUT_THE_NAME = {
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL
}  # fmt: skip
_log = logging.getLogger(__name__)


class Folder:
    """The files below a folder, addressed by their names relative to it ("/" between parts)."""

    is_shared = True  # other processes see these files
    can_append = True
    permit = ""  # a job's other processes need none: they end with the one that holds the lock

    def __init__(self, root: Path) -> None:
        self.root, self._text = root, str(root)
        self._numbers = itertools.count()
        self._writer = f"{socket.gethostname()}-{os.getpid()}"

    def create(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            StoreError: It cannot be created.
        """
        try:
            (self.root / _PARTIAL).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._refuse(error)

    def path(self, name: str) -> Path:
        """Return the path of a file.

        Raises:
            StoreError: The name leads out of the folder.
        """
        if not is_inside(name):
            raise StoreError(f"{printable(name)}: outside of {printable(self.root)}: rename it")
        return self.root / name

    def write(self, name: str, content: Iterable[bytes]) -> Stamp:
        """Write a file atomically; it is flushed to disk when this returns.

        Raises:
            ImageError: Only this name cannot be written.
            StoreError: Nothing can be written.
        """
        target = self.path(name)
        temporary = self.root / _PARTIAL / f"{self._writer}-{next(self._numbers)}"
        is_placed = False
        try:
            with temporary.open("xb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
            self._place(temporary, target)
            is_placed = True
        except OSError as error:
            if error.errno in _ABOUT_THE_NAME:
                reason = f"no file of this name can be written ({_reason(error)})"
                raise ImageError(f"{printable(name)}: {reason}: rename the image") from error
            self._refuse(error)
        finally:
            if not is_placed:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
        return Stamp(status.st_size, status.st_mtime_ns)

    def _place(self, temporary: Path, target: Path) -> None:
        # The root itself is not created again: if it is gone, and the temporary file with it, it
        # was removed on purpose. Several attempts: the process that removes a folder may still be
        # at work when it is created again.
        inside = reversed(target.relative_to(self.root).parents[:-1])
        folders = [self.root / folder for folder in inside]
        for attempt in range(_ATTEMPTS):
            try:
                for folder in folders if attempt else ():
                    folder.mkdir(exist_ok=True)
                temporary.replace(target)
                return
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1 or not temporary.exists():
                    raise

    def append(self, name: str, lines: bytes) -> None:
        """Append lines to a file; only a kill can leave a part of them."""
        try:
            with self.path(name).open("ab", buffering=0) as file:
                if file.write(lines) < len(lines):
                    # A full disk writes a part without an error.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._refuse(error)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno in _ABOUT_THE_NAME:
                return None
            self._refuse(error)

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; none if it does not exist."""
        try:
            with self.path(name).open("rb") as file:
                yield from file
        except FileNotFoundError:
            return
        except OSError as error:
            self._refuse(error)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of a file, or None if it does not exist."""
        if not is_inside(name):
            return None
        try:
            status = os.stat(f"{self._text}/{name}")  # noqa: PTH116 - called a million times
        except OSError:
            return None
        return Stamp(status.st_size, status.st_mtime_ns)

    def cache_listing(self, *folders: str) -> None:
        """Do nothing: a disk returns each stamp quickly."""

    def names(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all files in a folder, at any depth; links are not followed."""
        for at, folders, files in os.walk(self.root / folder):
            folders[:] = [name for name in folders if name != _PARTIAL]
            below = Path(at).relative_to(self.root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            yield from (prefix + name for name in files)

    def list(self, folder: str, suffix: str) -> list[str]:
        """Return the names in a folder that end with `suffix`, sorted."""
        found = (self.root / folder).glob(f"*{suffix}")
        return sorted(f"{folder}/{path.name}" for path in found)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in _ABOUT_THE_NAME:
                self._refuse(error)

    def remove(self, *names: str) -> None:
        """Remove files and folders, each atomically."""
        for name in names:
            doomed = self.root / _PARTIAL / f"{self._writer}-{next(self._numbers)}"
            try:
                with suppress(FileNotFoundError):
                    self.path(name).rename(doomed)
            except OSError as error:
                self._refuse(error)
        self.clean()

    def clean(self) -> None:
        """Delete leftovers of killed runs and of `remove`; only while no other job writes."""
        try:
            for entry in (self.root / _PARTIAL).iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        except OSError as error:
            self._refuse(error)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs out while the context is open; a killed process releases the lock.

        Raises:
            StoreError: Another job is writing here.
        """
        try:
            file = (self.root / _LOCK).open("a+b", buffering=0)
        except OSError as error:
            self._refuse(error)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = printable(file.readall().decode("utf-8", "replace").strip())
                raise StoreError(
                    f"{printable(self.root)}: another job is writing here ({holder}): "
                    "wait until it ends, or give another --out"
                ) from error
            except OSError as error:
                # Some network file systems have no locks: a job without one is better than none.
                _log.warning("%s: cannot be locked (%s)", printable(self.root), _reason(error))
            with suppress(OSError):  # on a full disk the lock holds, without the holder's name
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield

    def _refuse(self, error: OSError) -> NoReturn:
        raise StoreError(
            f"{printable(self.root)}: cannot be used ({_reason(error)}): fix that, then rerun "
            "the same command to resume"
        ) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "the folder is gone"
    return (error.strerror or str(error)).lower()
