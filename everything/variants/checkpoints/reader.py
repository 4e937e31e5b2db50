"""Weights: download, check, and read them without running code in the file."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from everything.core.file_names import printable
from everything.errors import WeightsError
from everything.variants.checkpoints.cache import check, locked
from everything.variants.checkpoints.download import fetch

State = dict[str, Tensor]
PACKAGED = "package:"
_WRAPPERS = ("model", "state_dict")


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
        return Path(torch.hub.get_dir()) / "checkpoints" / name

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
    """Return the SHA-256 of a file as 64 hex digits; raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # of a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{printable(path)}: cannot be read ({reason})") from error


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint by name, memory-mapped.

    The file may be safetensors, or a PyTorch file with tensors and plain containers only: other
    objects in a pickle are refused, so that no code runs. A dict under "model" or "state_dict" is
    unwrapped; several state dicts are merged, with their keys as prefixes.

    Raises:
        WeightsError: The file cannot be read or is not such a checkpoint.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = _is_archive(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: contains Python objects other than tensors, which could run code: "
            f"use a checkpoint that is a plain state dict"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({_first_line(error)})") from error
    return _unwrapped(loaded, path)


def _is_archive(path: Path) -> bool:
    """Whether a file can be memory-mapped: files of PyTorch before 1.6 are not zip archives."""
    with path.open("rb") as file:
        starts_as_one = file.read(4) == b"PK\3\4"
    if starts_as_one and not zipfile.is_zipfile(path):
        raise ValueError("it is truncated")
    return starts_as_one


def _unwrapped(loaded: Any, path: Path) -> State:
    if isinstance(loaded, dict):
        for key in _WRAPPERS:
            if isinstance(loaded.get(key), dict):
                return _unwrapped(loaded[key], path)
    state = dict(_tensors(loaded)) if isinstance(loaded, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: contains no state dict (names and tensors)")
    return state


def _tensors(loaded: dict[str, Any]) -> State:
    if not all(isinstance(value, dict) for value in loaded.values()):
        return loaded
    return {
        f"{key}.{name}": tensor for key, part in loaded.items() for name, tensor in part.items()
    }


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
