"""The folder into which images of archives are unpacked; nothing in it is replaced or deleted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from everything.core.file_names import printable
from everything.errors import InputError, StoreError
from everything.io.storage.local import Folder
from everything.io.storage.ownership import MARKER, header, kind_of

_OWN = ("images", "results")  # annotations may lie in the same folder


class UnpackedImages:
    """A folder of images that is marked as this program's when the first one is unpacked.

    Args:
        root: The folder. If others made it, images that are there are used, and none is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = Folder(root)
        self._is_claimed = False

    def put(self, name: str, content: Iterable[bytes]) -> bool:
        """Unpack an image, unless it is there.

        Args:
            name: Its name relative to the folder.
            content: Its bytes, in pieces.

        Returns:
            Whether it was not there.

        Raises:
            InputError: Another file of this name is there.
            StoreError: The folder is somebody else's, or cannot be written.
        """
        if self._folder.stamp(name) is not None:
            if not self._has(name, content):
                raise InputError("another file of this name is in --photos: give another folder")
            return False
        self._claim()
        self._folder.write(name, content)
        return True

    def _has(self, name: str, content: Iterable[bytes]) -> bool:
        try:
            with self._folder.path(name).open("rb") as file:
                return all(file.read(len(part)) == part for part in content) and not file.read(1)
        except OSError:  # a folder of this name, for one
            return False

    def _claim(self) -> None:
        if self._is_claimed:
            return
        self._folder.refuse_links(MARKER)
        kind = kind_of(self._folder.read(MARKER), self.root)
        if kind not in _OWN:
            if self.root.is_dir() and any(self.root.iterdir()):
                raise StoreError(
                    f"{printable(self.root)}: not empty and not of this program, and left as it is"
                    ": give another --photos"
                )
            self._folder.create()
            self._folder.write(MARKER, [header("images")])
        self._is_claimed = True

    def finish(self) -> None:
        """Delete what only unfinished files need."""
        if self._is_claimed:
            self._folder.finish()
