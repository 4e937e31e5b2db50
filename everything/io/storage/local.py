"""The folder of results on disk: the only file that writes there.

What is written appears whole or not at all. everything/io/storage/bucket.py has the same few
methods.
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
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from everything.core.file_names import is_inside, printable
from everything.errors import ImageError, StoreError

# Files in progress and those on their way out. Nobody who looks for results looks in here, and
# what a killed run leaves is cleaned without a walk through a million names.
_PARTIAL = ".partial"
_LOCK = ".lock"
_ATTEMPTS = 100  # to put a file into a folder that is being removed
# The name of one photo is at fault, all others can be written.
_ABOUT_THE_NAME = {
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL
}  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stamp:
    """By which a file is known not to have changed: size in bytes, time of change in ns."""

    size: int
    mtime_ns: int

    @property
    def pair(self) -> tuple[int, int]:
        """Both."""
        return self.size, self.mtime_ns


class Folder:
    """Files by their names below `root`, with "/"."""

    appends = True
    is_shared = True  # other processes see what is here
    permit = ""  # other processes of a job need none: they end with the one that holds the lock

    def __init__(self, root: Path) -> None:
        self.root, self._text = root, str(root)
        self._numbers = itertools.count()
        self._writer = f"{socket.gethostname()}-{os.getpid()}"

    def create(self) -> None:
        """Make the folder where there is none; raises StoreError."""
        try:
            (self.root / _PARTIAL).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._refuse(error)

    def path(self, name: str) -> Path:
        """Return where a file is; raises StoreError for a name that leads out of the folder."""
        if not is_inside(name):
            raise StoreError(
                f"{printable(name)}: not a name below {printable(self.root)}: rename it"
            )
        return self.root / name

    def write(self, name: str, content: Iterable[bytes]) -> Stamp:
        """Put a file in place in one step, on disk when this returns.

        Raises ImageError if only this name cannot be written and StoreError if nothing can.
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
                reason = f"its results cannot be named like it ({_reason(error)})"
                raise ImageError(f"{printable(name)}: {reason}: rename the photo") from error
            self._refuse(error)
        finally:
            if not is_placed:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
        return Stamp(status.st_size, status.st_mtime_ns)

    def _place(self, temporary: Path, target: Path) -> None:
        # Not the root itself: if that has gone, and the temporary file with it, somebody has a
        # reason. More than once: who removes a folder may still be at it when it is made again.
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
        """Add lines to a file, as a whole unless the process is killed meanwhile."""
        try:
            with self.path(name).open("ab", buffering=0) as file:
                if file.write(lines) < len(lines):
                    # A disk takes what it has room for, and the rest is its error.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._refuse(error)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None where there is none."""
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno in _ABOUT_THE_NAME:
                return None
            self._refuse(error)

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, none where there is no file."""
        try:
            with self.path(name).open("rb") as file:
                yield from file
        except FileNotFoundError:
            return
        except OSError as error:
            self._refuse(error)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of a file, or None where there is none."""
        if not is_inside(name):
            return None
        try:
            status = os.stat(f"{self._text}/{name}")  # noqa: PTH116 - asked a million times
        except OSError:
            return None
        return Stamp(status.st_size, status.st_mtime_ns)

    def cache_listing(self, *folders: str) -> None:
        """Do nothing: to ask a disk for each stamp is quick."""

    def names(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all files in a folder, at any depth; links are not followed."""
        for at, folders, files in os.walk(self.root / folder):
            folders[:] = [name for name in folders if name != _PARTIAL]
            below = Path(at).relative_to(self.root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            yield from (prefix + name for name in files)

    def list(self, folder: str, suffix: str) -> list[str]:
        """Return the names in one folder that end so, sorted."""
        found = (self.root / folder).glob(f"*{suffix}")
        return sorted(f"{folder}/{path.name}" for path in found)

    def delete(self, name: str) -> None:
        """Delete one file if it is there."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in _ABOUT_THE_NAME:
                self._refuse(error)

    def remove(self, *names: str) -> None:
        """Remove files and folders; each is gone in one step."""
        for name in names:
            doomed = self.root / _PARTIAL / f"{self._writer}-{next(self._numbers)}"
            try:
                with suppress(FileNotFoundError):
                    self.path(name).rename(doomed)
            except OSError as error:
                self._refuse(error)
        self.clean()

    def clean(self) -> None:
        """Remove what killed runs and `remove` have left; only while nobody else writes."""
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
        """Keep other jobs out until left or killed; raises StoreError if one is in here."""
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
                    "wait for its end, or give another --out"
                ) from error
            except OSError as error:
                # Some network storage has no locks: better one job without than none at all.
                _log.warning("%s: cannot be locked (%s)", printable(self.root), _reason(error))
            with suppress(OSError):  # a full disk holds the lock, if not who has it
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield

    def _refuse(self, error: OSError) -> NoReturn:
        raise StoreError(
            f"{printable(self.root)}: cannot be used ({_reason(error)}): mend that and run the "
            "same command again, it continues"
        ) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "the folder has gone"
    return (error.strerror or str(error)).lower()
