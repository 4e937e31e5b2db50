"""Where the images of results are, also after both were moved together.

The manifest has the path of each image as it was, and relative to the results folder.
DIR/manifest/_images.json has folders in which images were found later on.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from everything.core.file_names import as_text
from everything.errors import EverythingError, reason_of
from everything.io.storage.locations import Location, Url, located
from everything.io.storage.storage import Storage

FILE = "manifest/_images.json"  # readers of parquet folders ignore the underscore
_MOST = 8  # folders; the latest are kept
_log = logging.getLogger(__name__)


def relative(path: str | None, root: Location) -> str | None:
    """Return a path relative to a results folder; None if either is remote or the path has none."""
    if not path or isinstance(root, Url) or "://" in path or not path.startswith("/"):
        return None
    return os.path.relpath(os.path.realpath(path), os.path.realpath(root))


def absolute(relative_path: str, root: Location) -> str:
    """Return the path of which `relative` returned this."""
    return os.path.normpath(f"{os.path.realpath(root)}/{relative_path}")


def remember(folder: Storage, images: Location) -> None:
    """Record a folder of images in the results, if they can be written; else nothing happens."""
    text = as_text(images if isinstance(images, Url) else Path(images).absolute())
    try:
        found = _read(folder)
        entry = {"folder": text, "relative": relative(text, folder.root)}
        if entry not in found[:1]:
            kept = [entry, *(one for one in found if one != entry)][:_MOST]
            folder.write(FILE, [json.dumps(kept).encode("ascii")])
    except (EverythingError, OSError) as error:
        _log.debug("the folder of the images was not recorded (%s)", reason_of(error))


def remembered(folder: Storage) -> list[Location]:
    """Return the recorded folders, the latest first."""
    places: list[Location] = []
    for entry in _read(folder):
        if entry["relative"]:
            places.append(Path(absolute(entry["relative"], folder.root)))
        places.append(located(entry["folder"] or "."))
    return places


def _read(folder: Storage) -> list[dict[str, str | None]]:
    try:
        return [
            {"folder": str(entry["folder"]), "relative": entry["relative"]}
            for entry in json.loads(folder.read(FILE) or b"[]")
            if isinstance(entry["relative"], str | None)
        ]
    except (ValueError, TypeError, LookupError, RecursionError):
        return []
