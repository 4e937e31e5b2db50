"""Images that this program wrote, in results, reports and exports: they are not labelled.

Folders are recognised by their marker, or by a file that versions without markers left. What is
left out is counted and logged.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from everything.core.file_names import printable
from everything.errors import StoreError
from everything.io.storage.output_folder import listed
from everything.io.storage.ownership import MARKER, kind_of
from everything.io.storage.storage import SET_ASIDE

_OF_RESULTS = frozenset(
    ("annotations", "label_maps", "manifest", "attempts", "report", "overlays", SET_ASIDE)
)
_WHOLE = ("report", "overlays", "export")
_HEAD = 65536  # bytes of a file that tells what it is
_log = logging.getLogger(__name__)
_Entry = tuple[str, bool]  # name, and whether it is a folder


def without_own_output(
    folder: Path, entries: list[_Entry], is_root: bool, is_image: Callable[[str], bool]
) -> list[_Entry]:
    """Return the entries of a folder that are not output of this program, and log the others.

    Args:
        folder: The folder.
        entries: Its images and folders.
        is_root: The user named this folder: if it is a report or an export, its images are meant.
        is_image: Tells by the name whether a file is an image.
    """
    kind = _kind(folder)
    if kind in (None, "images") or (kind in _WHOLE and is_root):
        return entries
    kept: list[_Entry] = []
    if kind == "results":
        kept = [entry for entry in entries if not (entry[1] and entry[0] in _OF_RESULTS)]
    elif kind not in _WHOLE:
        own = _listed(folder)
        kept = [entry for entry in entries if entry[0] not in own]
    count = sum(_count(folder, entry, is_image) for entry in entries if entry not in kept)
    if count:
        _log.warning(
            "%s: %s of this program: %d images in it are left out",
            printable(folder),
            kind,
            count,
        )
    return kept


def without_own_objects(
    found: Iterable[tuple[str, int]], read: Callable[[str], bytes], root: str
) -> Iterator[tuple[str, int]]:
    """Yield the objects of a bucket, with their sizes, that are not output of this program.

    Args:
        found: Names and sizes, markers included.
        read: Returns the content of an object.
        root: The URL, for messages.
    """
    own: list[str] = []
    count = 0
    for name, size in found:
        folder, _, last = name.rpartition("/")
        prefix = f"{folder}/" if folder else ""
        if last == MARKER:
            if kind_of(read(name), root) == "results":
                own += (f"{prefix}{part}/" for part in sorted(_OF_RESULTS))
        elif any(name.startswith(one) for one in own):
            count += 1
        else:
            yield name, size
    if count:
        _log.warning("%s: %d images that this program wrote are left out", printable(root), count)


def _kind(folder: Path) -> str | None:
    marker = _head(folder / MARKER)
    if marker:
        try:
            return kind_of(marker, folder)
        except StoreError:
            return "results"  # of a newer version
    # Versions without markers.
    if b"\n# digest: " in _head(folder / "recipe.yaml"):
        return "results"
    if (folder / "report.json").is_file() and b"everything report" in _head(folder / "index.html"):
        return "report"
    try:
        about = json.loads(_head(folder / "export.json") or b"null")
    except ValueError:
        return None
    return "export" if isinstance(about, dict) and {"format", "labels"} <= about.keys() else None


def _head(file: Path) -> bytes:
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError:
        return b""


def _listed(folder: Path) -> set[str]:
    try:
        return listed(folder)
    except OSError:
        return set()


def _count(folder: Path, entry: _Entry, is_image: Callable[[str], bool]) -> int:
    name, is_folder = entry
    if not is_folder:
        return 1
    return sum(is_image(file) for _, _, files in os.walk(folder / name) for file in files)
