"""A folder of results in an object store, with the methods of everything/io/storage/local.py.

An object appears whole when its one PUT ends, so nothing is written under another name first. Other
jobs are kept out by a lease (everything/io/storage/lease.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NoReturn

from everything.core.file_names import is_inside, printable
from everything.errors import StoreError
from everything.io.storage.hashed_index import Numbers
from everything.io.storage.lease import Lease, Permit
from everything.io.storage.local import Stamp
from everything.io.storage.locations import Url, filesystem, with_retries
from everything.io.storage.walk import walk

_LEASE = ".lock"


class Bucket:
    """Objects by their names below `root`, with "/".

    permit: of the job on whose behalf they are written, as its own bucket has it while `locked`.
    """

    appends = False

    def __init__(self, root: Url, permit: str = "") -> None:
        self.root = root
        self.is_shared = not root.startswith("memory:")
        self._files, self._home = filesystem(root)
        self._stock: dict[str, Numbers] = {}
        lease = (self._files, self.url(_LEASE), root)
        self._permit = Permit(*lease, permit) if permit else None

    @property
    def permit(self) -> str:
        """What lets other processes write for the job that holds the bucket; "" if none does."""
        return self._permit.job if self._permit is not None else ""

    def create(self) -> None:
        """Do nothing: there are no folders."""

    def clean(self) -> None:
        """Do nothing: there are no half-written objects."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs out until left; raises StoreError if one is in here.

        One that was killed on this machine is followed at once, elsewhere after lease.STALE s.
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
        """Return the path of an object; raises StoreError for a name that leads elsewhere."""
        if not is_inside(name):
            raise StoreError(
                f"{printable(name)}: not a name below {printable(self.root)}: rename it"
            )
        return f"{self._home}/{name}"

    def write(self, name: str, content: Iterable[bytes]) -> Stamp:
        """Put an object in place; raises StoreError."""
        path, data = self.url(name), b"".join(content)
        try:
            self._check()
            with_retries(lambda: self._files.pipe_file(path, data))
        except OSError as error:
            self._refuse(error)
        return Stamp(len(data), 0)

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, or None where there is none."""
        path = self.url(name)
        try:
            content: bytes = with_retries(lambda: self._files.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)
        return content

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of an object, none where there is none."""
        yield from (self.read(name) or b"").splitlines(keepends=True)

    def cache_listing(self, *folders: str) -> None:
        """List these folders once, for `stamp` to answer from: a request each would take days."""
        for folder in folders:
            found = ((f"{folder}/{name}", (size,)) for name, size in self.walk(folder))
            self._stock[folder] = Numbers(found, 1)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of an object, or None where there is none. Its time is always 0:
        objects are not edited, and what a PUT says of the time is not what a listing says."""
        path, stock = self.url(name), self._stock.get(name.partition("/")[0])
        if stock is not None:
            found = stock.get(name)
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
        """Yield the names in a folder, relative to it, at any depth, and their sizes in bytes."""
        try:
            yield from walk(self._files, self.url(folder) if folder else self._home)
        except OSError as error:
            self._refuse(error)

    def list(self, folder: str, suffix: str) -> list[str]:
        """Return the names in a folder that end so, sorted."""
        names = (name for name, _ in self.walk(folder))
        return sorted(f"{folder}/{name}" for name in names if name.endswith(suffix))

    def delete(self, name: str) -> None:
        """Delete one object if it is there."""
        path = self.url(name)
        try:
            self._check()
            with_retries(lambda: self._files.rm_file(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._refuse(error)

    def remove(self, *names: str) -> None:
        """Remove objects, and folders of them."""
        for name in names:
            inside = [self.url(f"{name}/{inner}") for inner, _ in self.walk(name)]
            try:
                self._check()
                if inside:
                    with_retries(partial(self._files.rm, inside))  # by the thousand
            except FileNotFoundError:
                pass  # somebody else has removed some of them
            except OSError as error:
                self._refuse(error)
            self.delete(name)

    def _check(self) -> None:
        if self._permit is not None:
            self._permit.check()

    def _refuse(self, error: OSError) -> NoReturn:
        reason = printable(" ".join((error.strerror or str(error)).split()))
        raise StoreError(
            f"{printable(self.root)}: cannot be used ({reason}): mend that and run the same "
            "command again, it continues"
        ) from error
