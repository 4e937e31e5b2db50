"""A local folder with the output of one command, whose marker lists the files in it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from everything.core.file_names import printable
from everything.errors import StoreError
from everything.io.storage.local import UNFINISHED, Folder
from everything.io.storage.no_links import opened_parent
from everything.io.storage.ownership import MARKER, Kind, fingerprint, header, kind_of, parsed

_log = logging.getLogger(__name__)


class OutputFolder:
    """A folder of files that a command writes, and replaces when it is run again.

    Files that it did not write are never changed. A file of its own that was edited since is set
    aside where it is in the way.

    Args:
        root: The folder; it may be a link, but nothing is written through links in it.
        kind: What is written there.
    """

    def __init__(self, root: Path, kind: Kind) -> None:
        self.root, self.kind = root, kind
        self._folder = Folder(root, durable=False)
        self._lock = Lock()
        self._listed: dict[str, str] | None = None

    def is_own(self) -> bool:
        """Tell whether this command has written here before.

        Raises:
            StoreError: A newer version of the program has, or the marker is a link.
        """
        self._folder.refuse_links(MARKER)
        return kind_of(self._folder.read(MARKER), self.root) == self.kind

    def listed(self) -> set[str]:
        """Return the names of the files that this command wrote here, there or not."""
        return set(self._files()) if self.is_own() else set()

    def is_empty(self) -> bool:
        """Tell whether the folder does not exist, or has nothing in it."""
        return not os.path.lexists(self.root) or (
            self.root.is_dir() and not any(self.root.iterdir())
        )

    def names(self) -> list[str]:
        """Return the names of all files in the folder."""
        return list(self._folder.names())

    def refuse_links(self, *names: str) -> None:
        """Check that none of these entries is a link; raises StoreError."""
        self._folder.refuse_links(*names)

    def claim(self, *names: str) -> None:
        """Create and mark the folder, in which files of these names will be written.

        Raises:
            StoreError: A file of such a name was not written by this command, or is a link; or the
                folder cannot be written. Nothing there has changed.
        """
        self._folder.refuse_links(MARKER, *names)
        marker = self._folder.read(MARKER)
        kind = kind_of(marker, self.root)
        if marker is not None and kind is None:
            names = (MARKER, *names)
        listed = self._files() if kind == self.kind else {}
        for name in names:
            if name not in listed and self._folder.holds(name):
                raise StoreError(
                    f"{printable(self.root / name)}: not written by this command, and left as it "
                    "is: give another --out"
                )
        if kind is None:
            self._folder.refuse_foreign_locks()
        self._folder.refuse_links(UNFINISHED)
        self._folder.create()
        if kind is None:
            self._folder.write(MARKER, [header(self.kind)])

    def begin(self, earlier: Iterable[str] = ()) -> None:
        """Delete what an earlier run wrote; what others wrote is kept, and its number logged.

        Folders inside that have a marker of their own are the program's, too.

        Args:
            earlier: Files that a version of the program which kept no list has written.
        """
        self._folder.remove(name for name in list(self._files()) if self.is_unchanged(name))
        self._folder.remove(earlier)
        self._folder.write(MARKER, [header(self.kind)])
        self._listed = {}
        kept = self._of_others()
        if kept:
            _log.warning(
                "%s: %d files that this command did not write were kept, such as %s",
                printable(self.root), len(kept), printable(kept[0]),
            )  # fmt: skip

    def _of_others(self) -> list[str]:
        names = [name for name in self._folder.names() if name != MARKER]
        marked = tuple(n.removesuffix(MARKER) for n in names if n.endswith(f"/{MARKER}"))
        return [name for name in names if not name.startswith(marked)]

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            StoreError: It cannot be written.
        """
        self._make_room(name, fingerprint(content))
        self._folder.write(name, [content])

    def move_in(self, file: Path, name: str) -> None:
        """Move a file, or a link to one, from a folder on the same disk."""
        self._make_room(name, _hash_of(file) or "")
        with opened_parent(self.root, name, create=True) as (at, last):
            os.rename(file, last, dst_dir_fd=at)

    def list(self, names: Iterable[str]) -> None:
        """List files that are in the folder already."""
        lines = ({"name": name, "hash": _hash_of(self.root / name)} for name in names)
        self._folder.append(MARKER, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def finish(self) -> None:
        """Delete what only unfinished files need."""
        self._folder.finish()

    def _make_room(self, name: str, digest: str) -> None:
        """Set aside what is in the way of a new file; list the file before it is there."""
        with self._lock:
            if self._folder.holds(name) and not self.is_unchanged(name):
                aside = self._folder.set_aside(name)
                _log.warning(
                    "%s: not as this command wrote it: set aside as %s",
                    printable(self.root / name), printable(aside),
                )  # fmt: skip
            self._files()[name] = digest
            line = json.dumps({"name": name, "hash": digest}).encode("ascii")
            self._folder.append(MARKER, line + b"\n")

    def _files(self) -> dict[str, str]:
        """The files of the marker's list, with the hash of their contents."""
        if self._listed is None:
            lines = map(parsed, self._folder.lines(MARKER))
            self._listed = {
                str(line["name"]): str(line.get("hash")) for line in lines if "name" in line
            }
        return self._listed

    def is_unchanged(self, name: str) -> bool:
        """Tell whether a file is as this command wrote it."""
        digest = self._files().get(name)
        return digest is not None and _hash_of(self.root / name) == digest


def listed(root: Path) -> set[str]:
    """Return the names of the files below a folder that its marker lists; none without one."""
    with (root / MARKER).open("rb") as file:
        lines = map(parsed, file)
        return {str(line["name"]) for line in lines if "name" in line}


def _hash_of(path: Path) -> str | None:
    """Hash a file's content, or where a link leads."""
    try:
        if path.is_symlink():
            return fingerprint(b"link " + os.fsencode(path.readlink()))
        return fingerprint(path.read_bytes())
    except OSError:
        return None
