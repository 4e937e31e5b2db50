"""What storage of results does, on disk (local.py) or in an object store (bucket.py)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from everything.io.storage.locations import Location


@dataclass(frozen=True)
class Stamp:
    """Identifies the version of a file: size in bytes, modification time in ns since 1970."""

    size: int
    mtime_ns: int

    @property
    def pair(self) -> tuple[int, int]:
        """Size and modification time."""
        return self.size, self.mtime_ns


SET_ASIDE = "set-aside"
"""The folder of files that had to make room: what this program did not write, or cannot read."""


def free_names(name: str) -> Iterator[str]:
    """Yield names under which a file can be set aside, until one is free."""
    yield f"{SET_ASIDE}/{name}"
    for number in itertools.count(2):
        yield f"{SET_ASIDE}/{name}.{number}"


class Storage(Protocol):
    """Files below a root, addressed by their names relative to it ("/" between parts).

    Every method raises StoreError where the storage cannot be used.
    """

    @property
    def root(self) -> Location:
        """Where it is."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see these files."""

    @property
    def can_append(self) -> bool:
        """Whether `append` works; then no other process adds files while a job holds the lock."""

    @property
    def permit(self) -> str:
        """The token with which other processes write for the job that holds the lock."""

    def create(self) -> None:
        """Create the root if it does not exist."""

    def refuse_links(self, *names: str) -> None:
        """Check that none of these entries is a link, which leads to files of others."""

    def refuse_foreign_locks(self) -> None:
        """Check that the lock and unfinished files, if there are any, are of this program."""

    def clean(self) -> None:
        """Delete unfinished files of killed runs; only while no other job writes."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other jobs out while the context is open."""

    def write(self, name: str, content: Iterable[bytes]) -> Stamp:
        """Write a file atomically."""

    def append(self, name: str, lines: bytes) -> None:
        """Append lines to a file; only a kill can leave a part of them."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; none if it does not exist."""

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of a file, or None if it does not exist."""

    def cache_listing(self, *folders: str) -> None:
        """List these folders once, where a listing makes `stamp` faster."""

    def names(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all files in a folder, at any depth."""

    def list(self, folder: str, suffix: str) -> list[str]:
        """Return the names in a folder that end with `suffix`, sorted."""

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, and then the folders that are left empty."""

    def holds(self, name: str) -> bool:
        """Tell whether there is a file of this name, or a folder with anything in it."""

    def set_aside(self, name: str) -> str:
        """Move a file that must make room to SET_ASIDE, and return its new name."""
