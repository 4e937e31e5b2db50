"""Checkpoints of every variant without the real ones: its names and shapes, seeded values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from everything.variants import VARIANTS
from everything.variants.checkpoints.key_mapping import Blueprint

NETWORKS = "everything.variants.networks"
SMALL = {"side": 256}  # px of canvas, in place of 1024: the widths stay, the pixels are fewer


def options(name: str, small: bool = False) -> dict[str, Any]:
    """The options of a variant's record, or those of a small network of the same kind."""
    given = dict(VARIANTS[name].options)
    if not small:
        return given
    encoder = VARIANTS[given.get("encoder", name)]
    return {**given, **SMALL, **_shallow(encoder.module, encoder.options)}


def _shallow(module: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One block of each kind, where the network is deep and says how deep."""
    if module == f"{NETWORKS}.sam" or (module == f"{NETWORKS}.hq_sam" and given):
        return {"depth": 2, "global_attn_indexes": (1,)}
    if module == f"{NETWORKS}.efficientvit":
        return {"depths": tuple(min(depth, 1) for depth in given["depths"]), "neck_depth": 1}
    if module == f"{NETWORKS}.efficientsam":
        return {"depth": 2}
    if module == f"{NETWORKS}.efficienttam":
        return {"depth": 2, "global_blocks": (1,)}
    if module == f"{NETWORKS}.sam2":
        return {"stages": (1, 2, 2, 1), "global_blocks": (4,)}
    return {}


def blueprint(name: str, small: bool = False) -> Blueprint[Any]:
    module = VARIANTS[name].network_module()
    made: Blueprint[Any] = module.blueprint(**options(name, small))
    return made


def checkpoint(plan: Blueprint[Any]) -> dict[str, Tensor]:
    """Seeded values under the official names, of a size that keeps activations in range."""
    generator = torch.Generator().manual_seed(0)
    own = plan.network.state_dict()
    integers = {official for n, official in plan.official_names().items() if _is_int8(own[n])}
    state = {name: _values(name, shape, generator) for name, shape in sorted(plan.shapes().items())}
    return state | {n: (127 * state[n]).clamp(-127, 127).to(torch.int8) for n in integers}


def _is_int8(tensor: Tensor) -> bool:
    return tensor.dtype == torch.int8


def _values(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("input_zero"):
        return torch.tensor(63.0)
    noise = torch.randn(shape, generator=generator)
    if name.endswith("_scale"):
        return 0.01 + 0.001 * noise.abs()
    if name.endswith("running_var"):
        return 1 + 0.2 * noise.abs()
    if name.endswith("running_mean"):
        return 0.1 * noise
    if name.endswith("weight") and len(shape) == 1:
        return 1 + 0.2 * noise
    if ".hf_mlp.layers.2." in name:  # else HQ-SAM's masks are full or empty
        return 0.02 * noise
    if len(shape) < 2 or "pos" in name or "gaussian" in name:
        return 0.2 * noise
    return noise / shape[1:].numel() ** 0.5
