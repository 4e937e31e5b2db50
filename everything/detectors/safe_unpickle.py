"""Reads the tensors of checkpoints that pickle a whole network, without running any of its code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everything.errors import WeightsError
from everything.variants.checkpoints.reader import State

NETWORKS = ("ema", "model")  # keys under which ultralytics saves it, the better one first


class Shell:
    """An inert stand-in for an object of any class in a pickle; it only keeps the state."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.arguments = args


def read_network(path: Path) -> State:
    """Return the tensors, float32 or integer, by name, of the network that a checkpoint pickles.

    Every class in the pickle that PyTorch does not list as safe is replaced by an inert one, so
    that no code of the file runs.

    Raises:
        WeightsError: The file cannot be read or has no network under "ema" or "model".
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(Shell, name) for name in names]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: not a readable checkpoint ({reason})") from error
    found = [loaded.get(key) for key in NETWORKS] if isinstance(loaded, dict) else []
    state = next((_tensors(network) for network in found if isinstance(network, Shell)), {})
    if not state:
        raise WeightsError(f"{path}: contains no network under {' or '.join(map(repr, NETWORKS))}")
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def _tensors(module: Any, prefix: str = "") -> State:
    """What `state_dict` would return for the module that a shell stands for."""
    state = vars(module)
    own = state.get("_parameters", {}) | state.get("_buffers", {})
    skipped = state.get("_non_persistent_buffers_set", ())
    found: State = {
        prefix + name: value.detach()
        for name, value in own.items()
        if isinstance(value, Tensor) and name not in skipped
    }
    for name, child in state.get("_modules", {}).items():
        if isinstance(child, Shell):
            found |= _tensors(child, f"{prefix}{name}.")
    return found
