"""Weights: where they come from, checked, and read without running anything in them."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from everything.errors import WeightsError

State = dict[str, Tensor]
PACKAGED = "package:"


@dataclass(frozen=True)
class Weights:
    """Where weights come from: "package:FILE" (embedded) or a URL with the file's SHA-256."""

    source: str
    sha256: str = ""

    def path(self) -> Path:
        """Return the file, downloaded once into torch.hub's cache and checked.

        Raises WeightsError if it cannot be had or is not the file it should be.
        """
        if self.source.startswith(PACKAGED):
            name = self.source.removeprefix(PACKAGED)
            return Path(str(files("everything") / "weights" / name))
        cached = Path(torch.hub.get_dir()) / "checkpoints" / self.source.rsplit("/", 1)[1]
        if not cached.exists():
            self._download(cached)
        return cached

    def digest(self) -> str:
        """Return the SHA-256 of the weights, without fetching them where it is on record."""
        return self.sha256 or sha256(self.path())

    def _download(self, to: Path) -> None:
        if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
            raise WeightsError(
                f"{to}: not there and HF_HUB_OFFLINE is set: copy {self.source} there, "
                f"or name a file with --checkpoint"
            )
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Written under another name, hashed, then renamed: never half a file in the cache.
            torch.hub.download_url_to_file(self.source, str(to), hash_prefix=self.sha256)
        except URLError as error:
            raise WeightsError(
                f"{self.source}: cannot be fetched ({error.reason}): copy it to {to}, "
                f"name a file with --checkpoint, or use --variant ucm, which needs no download"
            ) from error
        except RuntimeError as error:
            raise WeightsError(f"{self.source}: not the file expected ({error})") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits; raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint, memory-mapped, by name.

    Safetensors, or a PyTorch file that holds nothing but tensors and plain containers: code in a
    pickle is refused, not run. A dict under "model" or "state_dict" is unwrapped. Raises
    WeightsError.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds Python objects besides tensors, which are not run: "
            f"use a checkpoint that is a plain state dict"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({_first_line(error)})") from error
    return _unwrapped(loaded, path)


def load_strictly(module: torch.nn.Module, state: State, path: str) -> None:
    """Put a state into a module in which every name and shape must fit; `path` is for the error.

    The module's parameters become the state's tensors, so nothing is held twice. Raises
    WeightsError that names what does not fit.
    """
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshapen = [n for n in own.keys() & state.keys() if own[n].shape != state[n].shape]
    problems = [("missing", missing), ("not known", unexpected), ("of another shape", misshapen)]
    found = [f"{len(names)} {what} ({names[0]} …)" for what, names in problems if names]
    if found:
        raise WeightsError(
            f"{path}: not weights of this variant: {', '.join(found)}: "
            f"name the variant that they belong to with --variant"
        )
    module.load_state_dict(state, assign=True)


def _unwrapped(loaded: Any, path: Path) -> State:
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path}: holds no state dict (names and tensors)")
    return dict(loaded)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
