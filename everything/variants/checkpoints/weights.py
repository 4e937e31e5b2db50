"""Where weights come from, and their files on this machine. PyTorch is not imported for it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from everything.core.file_names import printable
from everything.errors import WeightsError
from everything.variants.checkpoints.cache import check, hub_cache, locked
from everything.variants.checkpoints.download import fetch
from everything.variants.checkpoints.model_folder import folder_digest

PACKAGED = "package:"


@dataclass(frozen=True)
class Weights:
    """Where weights come from, and whether they can be downloaded.

    Args:
        source: "package:FILE" (bundled), or a URL.
        sha256: Of the file at the URL; "" if none is published.
        file: Its name in the cache; "": the last part of the URL.
        by_hand: Why it cannot be downloaded; "" if it can.
    """

    source: str
    sha256: str = ""
    file: str = ""
    by_hand: str = ""

    @property
    def status(self) -> str:
        """How to get them, in a few words."""
        if self.source.startswith(PACKAGED):
            return "bundled"
        return f"with --checkpoint: {self.by_hand}" if self.by_hand else "downloaded at first use"

    @property
    def cached(self) -> Path:
        """Where in torch.hub's cache the file is, or will be."""
        name = self.file or self.source.rsplit("/", 1)[1].removesuffix(".zip")
        return hub_cache() / name

    def path(self) -> Path:
        """Return the file; download it into torch.hub's cache and check it if necessary.

        Processes on one machine download it only once.

        Raises:
            WeightsError: It cannot be downloaded, or its SHA-256 is wrong.
        """
        if self.source.startswith(PACKAGED):
            name = self.source.removeprefix(PACKAGED)
            return Path(str(files("everything.bundled") / "weights" / name))
        file = self.cached
        if not file.exists():
            self._download(file)
        if self.sha256:
            check(file, self.sha256, self.source)
        return file

    def digest(self) -> str:
        """Return the SHA-256 of the weights, without a download if it is published."""
        return self.sha256 or sha256(self.path())

    def _download(self, to: Path) -> None:
        if self.by_hand:
            raise WeightsError(
                f"{self.source}: {self.by_hand}: put the file at {to}, or give it with --checkpoint"
            )
        if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
            raise WeightsError(
                f"{to}: not found, and HF_HUB_OFFLINE is set: copy {self.source} there, "
                f"or give a file with --checkpoint"
            )
        with locked(to):
            if not to.exists():
                fetch(self.source, to, self.sha256)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder in transformers' layout, as 64 hex digits.

    Raises:
        WeightsError: It cannot be read.
    """
    if path.is_dir():
        return folder_digest(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # of a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{printable(path)}: cannot be read ({reason})") from error
