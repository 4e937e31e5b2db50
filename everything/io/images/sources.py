"""Which images a job is about, and the names under which their results are kept.

The name of an image is its path relative to the folder that was given, or to what several inputs
have in common, with "/" and with its suffix: no two images of a job share a name. Names are
str as Python has them; everything/core/file_names.py says what becomes of those that are not UTF-8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from everything.core.file_names import printable
from everything.errors import InputError, without_secrets
from everything.io.images.other_kinds import OtherKinds
from everything.io.images.own_output import without_own_output
from everything.io.storage.locations import Location, Url, located

_PLAIN = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif"}
SUFFIXES = _PLAIN | {".hif", ".avif", ".gif", ".bmp", ".jp2", ".mpo", ".ppm", ".pgm", ".pnm"}
_FileId = tuple[int, int]


def has_image_suffix(name: str) -> bool:
    """Tell whether a file, of which this is the last part of the path, is an image by its name."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


class Source(NamedTuple):
    """An image to be read: `folder/name`, where `name` is also what its results are called.

    size: of its file in bytes, where the listing told. file: where it is, if not there; a path or
    URL. start: if it is a part of that file, an archive, its first byte.
    """

    folder: str
    name: str
    size: int | None = None
    file: str | None = None
    start: int | None = None

    @property
    def location(self) -> Location:
        """Where the image, or the archive that it is in, is; raises InputError."""
        if self.file is not None:
            return located(self.file)
        home = located(self.folder)
        return home / self.name if isinstance(home, Url) else self.path

    @property
    def recorded(self) -> tuple[str, str | None]:
        """Folder and file as manifests have them: URLs without secrets."""
        file = None if self.file is None else without_secrets(self.file)
        return without_secrets(self.folder), file

    @property
    def path(self) -> Path:
        """Where the image is on disk."""
        return Path(self.folder, self.name)

    @property
    def printable(self) -> str:
        """What messages call it."""
        if self.start is not None:
            return printable(self.name)
        return printable(self.file or f"{self.folder}/{self.name}")


def list_inputs(inputs: Sequence[Path], leave_out: Path | None = None) -> Iterator[Source]:
    """Yield the images among files and in folders, each once, always in the same order.

    Of folders, at any depth: every entry with an image's suffix and without a leading dot, also
    one that will turn out to be unreadable; folders reached again through links are not repeated,
    and the folder `leave_out` (the results') is not entered. Files that are named are taken
    whatever they are called. What this program wrote, such as the images of a report, is left out
    and counted (everything/io/images/own_output.py). No more than the names of one folder at each
    level are held. Files of other kinds that hold images, such as raw photos and archives, are
    counted in the log. Raises InputError at once if an input does not exist.
    """
    roots = [_rooted(path) for path in inputs]
    base = os.path.commonpath([_home(root) for root in roots]) if roots else ""
    return _walk_roots(roots, base, _file_id(leave_out) if leave_out else None)


def _rooted(path: Path) -> Path:
    """The absolute path; links on the way are resolved, so that names never hold `..`, but a
    link that was itself given keeps its own name."""
    try:
        path.stat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{printable(path)}: {reason}: give images or folders that exist"
        ) from error
    if path.name in ("", ".."):
        return path.resolve()
    return path.parent.resolve() / path.name


def _home(root: Path) -> Path:
    return root if root.is_dir() else root.parent


def _walk_roots(roots: list[Path], base: str, leave_out: _FileId | None) -> Iterator[Source]:
    seen = {leave_out} if leave_out else set()
    named: set[str] = set()
    for root in roots:
        if not root.is_dir():
            named.add(root.relative_to(base).as_posix())
    yield from (Source(base, name) for name in sorted(named, key=os.fsencode))
    for root in roots:
        if root.is_dir():
            below = root.relative_to(base).as_posix()
            prefix = "" if below == "." else f"{below}/"
            images = _walk(base, prefix, seen)
            yield from (image for image in images if image.name not in named)


def _walk(base: str, prefix: str, seen: set[_FileId]) -> Iterator[Source]:
    """Every image below a folder, in the order of the bytes of their names."""
    pending = [(prefix, True)]  # and no recursion: folders may be nested by the thousand
    others = OtherKinds()
    while pending:
        name, is_folder = pending.pop()
        if not is_folder:
            yield Source(base, name)
            continue
        folder = Path(base, name)
        try:
            identity = _file_id(folder)
            if identity in seen:
                continue
            seen |= {identity} if identity else set()
            entries = _entries(folder, others)
            entries = without_own_output(folder, entries, name == prefix, has_image_suffix)
        except OSError:
            # Listed in place of what it holds: reading it fails with the reason, which is its row.
            yield Source(base, name.removesuffix("/") or ".")
            continue
        inner = [(f"{name}{entry}{'/' * is_folder}", is_folder) for entry, is_folder in entries]
        pending += reversed(inner)
    others.log(f"{base}/{prefix}".rstrip("/"))


def _entries(folder: Path, others: OtherKinds) -> list[tuple[str, bool]]:
    with os.scandir(folder) as scan:
        found = [
            (entry.name, _is_folder(entry)) for entry in scan if not entry.name.startswith(".")
        ]
    kept = []
    for name, is_folder in found:
        if is_folder or has_image_suffix(name):
            kept.append((name, is_folder))
        else:
            others.see(name)
    return sorted(kept, key=lambda entry: os.fsencode(entry[0]))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads nowhere or round in circles: reading it says so


def _file_id(path: Path) -> _FileId | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
