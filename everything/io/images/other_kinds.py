"""Files that hold images of kinds that are not read: among images they are counted and logged."""

from __future__ import annotations

import logging
import os
from collections import Counter

from everything.core.file_names import printable

_RAW = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"}
_SCIENCE = {".dcm", ".nii", ".czi", ".lif", ".nd2", ".lsm", ".svs", ".ndpi", ".img", ".ecw", ".vrt"}
_OTHERS = {".jxl", ".psd", ".tga", ".exr", ".hdr", ".svg", ".pdf", ".ico", ".jp2k", ".j2k"}
_FILMS = {".mp4", ".mov", ".avi", ".mkv"}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}
_KINDS = _RAW | _SCIENCE | _OTHERS | _FILMS | _ARCHIVES
_log = logging.getLogger(__name__)


class OtherKinds:
    """Counts files by their suffixes while a folder is listed."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def see(self, name: str) -> None:
        """Count a file that is not read, given by the last part of its path."""
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - also of an object's key
        if suffix in _KINDS and not name.startswith("."):
            self._counts[suffix] += 1

    def log(self, place: str) -> None:
        """Log what was counted in a folder or bucket."""
        if self._counts:
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in self._counts.most_common())
            _log.warning("%s: files of kinds that are not read here: %s", printable(place), kinds)
