"""Results in an object store, with the methods of everything/io/storage/local.py.

A PUT is atomic, so objects are written under their final name at once. A lease keeps other jobs out
(everything/io/storage/lease.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from typing import NoReturn

from everything.core.file_names import is_inside, printable
from everything.errors import StoreError, reason_of
from everything.io.storage.hashed_index import HashedIndex
from everything.io.storage.lease import Lease, Permit
from everything.io.storage.locations import Url, filesystem, with_retries
from everything.io.storage.storage import Stamp, free_names
from everything.io.storage.walk import walk

_LEASE = ".lock"
_DELETED_AT_ONCE = 1000  # objects in one request of S3


class ObjectStore:
    """The objects below a URL, addressed by their names relative to it ("/" between parts).

    Args:
        root: The URL of a bucket or of a prefix in it.
        permit: The `permit` of the job on whose behalf this process writes; "" if it writes for
            none.
    """

    can_append = False

    def __init__(self, root: Url, permit: str = "") -> None:
        self.root = root
        self.is_shared = not root.startswith("memory:")
        self._files, self._home = filesystem(root)
        self._listings: dict[str, HashedIndex] = {}
        lease = (self._files, self.url(_LEASE), root)
        self._permit = Permit(*lease, permit) if permit else None

    @property
    def permit(self) -> str:
        """The token with which other processes write for the job that holds the bucket.

        "" if no job holds it.
        """
        return self._permit.job if self._permit is not None else ""

    def create(self) -> None:
        """Do nothing: an object store has no folders."""

    def refuse_links(self, *names: str) -> None:
        """Do nothing: an object store has no links."""

    def refuse_foreign_locks(self) -> None:
        """Check that the lease, if there is one, is of this program.

        Raises:
            StoreError: It is not.
        """
        content = self.read(_LEASE)
        if content and b'"job"' not in content:
            raise StoreError(
                f"{printable(self.root)}: has a {_LEASE} that this program did not write: give "
                "another --out"
            )

    def clean(self) -> None:
        """Do nothing: an object store has no partly written objects."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs out while the context is open.

        The lease of a job that was killed on this machine is taken over at once, that of one on
        another machine after lease.STALE seconds.

        Raises:
            StoreError: Another job is writing here.
        """
        lease = Lease(self._files, self.url(_LEASE), self.root)
        with ExitStack() as stack:
            try:
                stack.enter_context(lease.held())
            except OSError as error:
                self._refuse(error)
            self._permit = lease
            stack.callback(setattr, self, "_permit", None)
            yield

    def url(self, name: str) -> str:
        """Return the path of an object in fsspec's file system.

        Raises:
            StoreError: The name leads out of the root.
        """
        if not is_inside(name):
            raise StoreError(f"{printable(name)}: outside of {printable(self.root)}: rename it")
        return f"{self._home}/{name}"

    def write(self, name: str, content: Iterable[bytes]) -> Stamp:
        """Write an object.

        Raises:
            StoreError: It cannot be written, or this job has lost its lease.
        """
        path, data = self.url(name), b"".join(content)
        try:
            self._check()
            with_retries(lambda: self._files.pipe_file(path, data))
        except OSError as error:
            self._refuse(error)
        return Stamp(len(data), 0)

    def append(self, name: str, lines: bytes) -> NoReturn:
        """Raise StoreError: objects are written whole."""
        where = printable(f"{self.root}/{name}")
        raise StoreError(f"{where}: objects cannot be appended to: write it whole")

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, or None if it does not exist."""
        path = self.url(name)
        try:
            content: bytes = with_retries(lambda: self._files.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)
        return content

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of an object; none if it does not exist."""
        yield from (self.read(name) or b"").splitlines(keepends=True)

    def cache_listing(self, *folders: str) -> None:
        """List these folders once, so that `stamp` needs no request per object."""
        for folder in folders:
            found = ((f"{folder}/{name}", (size,)) for name, size in self.walk(folder))
            self._listings[folder] = HashedIndex(found, 1)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of an object, or None if it does not exist.

        Its time is always 0: objects are not edited, and the time that a PUT reports differs from
        that of a listing.
        """
        path, listing = self.url(name), self._listings.get(name.partition("/")[0])
        if listing is not None:
            found = listing.get(name)
            return None if found is None else Stamp(found[0], 0)
        try:
            return Stamp(int(with_retries(lambda: self._files.info(path))["size"]), 0)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)

    def names(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all objects in a folder, at any depth."""
        prefix = f"{folder}/" if folder else ""
        yield from (prefix + name for name, _ in self.walk(folder) if prefix + name != _LEASE)

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield the names relative to a folder, at any depth, with sizes in bytes."""
        try:
            yield from walk(self._files, self.url(folder) if folder else self._home)
        except OSError as error:
            self._refuse(error)

    def list(self, folder: str, suffix: str) -> list[str]:
        """Return the names in a folder that end with `suffix`, sorted."""
        names = (name for name, _ in self.walk(folder))
        return sorted(f"{folder}/{name}" for name in names if name.endswith(suffix))

    def delete(self, name: str) -> None:
        """Delete an object if it exists."""
        path = self.url(name)
        try:
            self._check()
            with_retries(lambda: self._files.rm_file(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._refuse(error)

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects."""
        remaining = iter(names)
        while some := list(islice(remaining, _DELETED_AT_ONCE)):
            try:
                self._check()
                with_retries(partial(self._files.rm, [self.url(name) for name in some]))
            except FileNotFoundError:
                for name in some:  # another process has deleted some of them
                    self.delete(name)
            except OSError as error:
                self._refuse(error)

    def holds(self, name: str) -> bool:
        """Tell whether there is an object of this name, or below it."""
        return self.stamp(name) is not None or any(True for _ in self.walk(name))

    def set_aside(self, name: str) -> str:
        """Move an object that must make room, and return its new name."""
        free = next(free for free in free_names(name) if self.stamp(free) is None)
        content = self.read(name)
        if content is not None:
            self.write(free, [content])
            self.delete(name)
        return free

    def _check(self) -> None:
        if self._permit is not None:
            self._permit.check()

    def _refuse(self, error: OSError) -> NoReturn:
        reason = " ".join(error.strerror.split()) if error.strerror else reason_of(error)
        raise StoreError(
            f"{printable(self.root)}: cannot be used ({printable(reason)}): fix that, then rerun "
            "the same command to resume"
        ) from error
