"""Reads weights without running code from the file."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from everything.errors import WeightsError
from everything.variants.checkpoints.model_folder import weight_files

State = dict[str, Tensor]
_WRAPPERS = ("model", "state_dict")


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint by name, memory-mapped.

    The file may be safetensors, or a PyTorch file with tensors and plain containers only: other
    objects in a pickle are refused, so that no code runs. A dict under "model" or "state_dict" is
    unwrapped; several state dicts are merged, with their keys as prefixes. The path may also be a
    folder in transformers' layout, of which the safetensors are read.

    Raises:
        WeightsError: The file cannot be read or is not such a checkpoint.
    """
    if path.is_dir():
        return {name: t for file in weight_files(path) for name, t in read_state(file).items()}
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
