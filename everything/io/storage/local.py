"""Results in a folder on disk; nothing else writes there.

Files are written atomically. everything/io/storage/object_store.py has the same methods
for an object store.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NoReturn

from everything.core.file_names import is_inside, printable
from everything.errors import ImageError, StoreError
from everything.io.storage import exact_names
from everything.io.storage.no_links import open_regular, opened_folder, opened_parent
from everything.io.storage.storage import Stamp, free_names

# Files that are being written. Readers of results do not look in here.
UNFINISHED = ".partial"
_LOCK = ".lock"
_TEMPORARY = re.compile(r".+-\d+-\d+")  # host, process, number
_HOLDER = re.compile(rb"process \d+ on .*\n?")
_LONGEST_HOLDER = 1024  # bytes
_ATTEMPTS = 100  # to place a file in a folder that is being removed
# The name of one image is the cause; all others can be written.
_ABOUT_THE_NAME = {
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL,
    errno.ELOOP,
}  # fmt: skip
_log = logging.getLogger(__name__)


class Folder:
    """The files below a folder, addressed by their names relative to it ("/" between parts)."""

    is_shared = True  # other processes see these files
    can_append = True
    permit = ""  # a job's other processes need none: they end with the one that holds the lock

    def __init__(self, root: Path, durable: bool = True) -> None:
        self.root, self._text = root, str(root)
        self._durable = durable
        self._numbers = itertools.count()
        self._writer = f"{socket.gethostname()}-{os.getpid()}"

    def create(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            StoreError: It cannot be created.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with opened_folder(self.root, UNFINISHED, create=True):
                pass
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise StoreError(
                    f"{printable(self.root)}: not a directory: give another --out"
                ) from error
            self.refuse_links(UNFINISHED)
            self._refuse(error)

    def refuse_links(self, *names: str) -> None:
        """Check that none of these entries is a link.

        Raises:
            StoreError: One is, and would lead to files of others.
        """
        for name in names:
            try:
                is_link = (self.root / name).is_symlink()
            except OSError as error:
                self._refuse(error)
            if is_link:
                raise StoreError(
                    f"{printable(self.root / name)}: a link, and results are not written through "
                    "links: replace it by a folder or file of its own, or give another --out"
                )

    def refuse_foreign_locks(self) -> None:
        """Check that what would be the lock and the folder of unfinished files may be used.

        Raises:
            StoreError: They are links, or were not written by this program.
        """
        self.refuse_links(UNFINISHED, _LOCK)
        try:
            is_ours = self._has_own_partial() and self._has_own_lock()
        except OSError as error:
            self._refuse(error)
        if not is_ours:
            raise StoreError(
                f"{printable(self.root)}: has a {_LOCK} or {UNFINISHED} that this program did not "
                "write: give another --out"
            )

    def _has_own_partial(self) -> bool:
        partial = self.root / UNFINISHED
        return not partial.exists() or all(_TEMPORARY.fullmatch(p.name) for p in partial.iterdir())

    def _has_own_lock(self) -> bool:
        lock = self.root / _LOCK
        if not lock.exists():
            return True
        if not lock.is_file() or lock.stat().st_size > _LONGEST_HOLDER:
            return False
        content = lock.read_bytes()  # none if its holder was killed before it wrote its name
        return not content or _HOLDER.fullmatch(content) is not None

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
        self.path(name)
        temporary = f"{self._writer}-{next(self._numbers)}"
        try:
            with opened_folder(self.root, UNFINISHED, create=True) as partial:
                try:
                    status = self._write_temporary(partial, temporary, content)
                    self._place(partial, temporary, name)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=partial)
                    raise
        except OSError as error:
            if link := self._link_on_the_way(name):
                raise ImageError(
                    f"{printable(name)}: not written through a link: replace {printable(link)} by "
                    "a folder"
                ) from error
            if error.errno in _ABOUT_THE_NAME:
                reason = f"no file of this name can be written ({_reason(error)})"
                raise ImageError(f"{printable(name)}: {reason}: rename the image") from error
            self._refuse(error)
        return Stamp(status.st_size, status.st_mtime_ns)

    def _link_on_the_way(self, name: str) -> Path | None:
        folders = [self.root / parent for parent in PurePosixPath(name).parents][:-1]
        return next((folder for folder in folders if folder.is_symlink()), None)

    def _write_temporary(
        self, partial: int, temporary: str, content: Iterable[bytes]
    ) -> os.stat_result:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=partial), "wb") as file:
            file.writelines(content)
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
            return os.fstat(file.fileno())

    def _place(self, partial: int, temporary: str, name: str) -> None:
        # The root itself is not created again: if it is gone, and the temporary file with it, it
        # was removed on purpose. Several attempts: the process that removes a folder may still be
        # at work when it is created again.
        for attempt in range(_ATTEMPTS):
            try:
                with opened_parent(self.root, name, create=attempt > 0) as (at, last):
                    if self._ignores_case:
                        exact_names.place(temporary, name, self.root, (partial, at))
                    else:
                        os.replace(temporary, last, src_dir_fd=partial, dst_dir_fd=at)
                return
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1 or not (self.root / UNFINISHED / temporary).exists():
                    raise

    @cached_property
    def _ignores_case(self) -> bool:
        return exact_names.ignores_case(self.root, UNFINISHED)

    def append(self, name: str, lines: bytes) -> None:
        """Append lines to a file; only a kill can leave a part of them."""
        self.path(name)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(open_regular(self.root, name, flags), "ab", buffering=0) as file:
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
            folders[:] = [name for name in folders if name != UNFINISHED]
            below = Path(at).relative_to(self.root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            yield from (prefix + name for name in files)

    def list(self, folder: str, suffix: str) -> list[str]:
        """Return the names in a folder that end with `suffix`, sorted."""
        found = (self.root / folder).glob(f"*{suffix}")
        return sorted(f"{folder}/{path.name}" for path in found)

    def holds(self, name: str) -> bool:
        """Tell whether a file or link of this name exists, or a folder with anything in it."""
        path = self.path(name)
        try:
            if path.is_dir() and not path.is_symlink():
                return any(path.iterdir())
            return path.exists() or path.is_symlink()
        except OSError as error:
            self._refuse(error)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        self.path(name)
        try:
            with opened_parent(self.root, name) as (at, last):
                os.unlink(last, dir_fd=at)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _ABOUT_THE_NAME:
                self._refuse(error)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, and then the folders that are left empty."""
        folders = set()
        for name in names:
            self.delete(name)
            folders.add(name.rpartition("/")[0])
        for folder in sorted(folders, key=len, reverse=True):
            self._prune(folder)

    def _prune(self, folder: str) -> None:
        while folder:
            try:
                with opened_parent(self.root, folder) as (at, last):
                    os.rmdir(last, dir_fd=at)
            except OSError:
                return  # something else is in it
            folder = folder.rpartition("/")[0]

    def set_aside(self, name: str) -> str:
        """Move a file that must make room, and return its new name."""
        self.path(name)
        try:
            with opened_parent(self.root, name) as (at, last):
                for free in free_names(name):
                    with opened_parent(self.root, free, create=True) as (there, new):
                        if not _exists(new, there):
                            os.rename(last, new, src_dir_fd=at, dst_dir_fd=there)
                            return free
        except OSError as error:
            self._refuse(error)
        raise AssertionError

    def clean(self) -> None:
        """Delete unfinished files of killed runs; only while no other job writes."""
        try:
            with opened_folder(self.root, UNFINISHED) as partial:
                with os.scandir(partial) as entries:
                    unfinished = [entry.name for entry in entries if _is_temporary(entry)]
                for name in unfinished:
                    os.unlink(name, dir_fd=partial)
        except OSError as error:
            self._refuse(error)

    def finish(self) -> None:
        """Delete the folder of unfinished files, if it is empty."""
        self._prune(UNFINISHED)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs out while the context is open; a killed process releases the lock.

        Raises:
            StoreError: Another job is writing here, or the lock is a link.
        """
        self.refuse_links(_LOCK)
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            file = os.fdopen(open_regular(self.root, _LOCK, flags), "a+b", buffering=0)
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
    if error.errno == errno.ELOOP:
        return "it leads through a link"
    return (error.strerror or str(error)).lower()


def _is_temporary(entry: os.DirEntry[str]) -> bool:
    return bool(_TEMPORARY.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)


def _exists(name: str, at: int) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
