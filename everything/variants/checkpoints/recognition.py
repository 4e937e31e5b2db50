"""Which variants a checkpoint is of: by the names and shapes of its tensors, or by its settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from everything.errors import ConfigError
from everything.variants import VARIANTS
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.model_folder import CONFIG, config_of
from everything.variants.checkpoints.reader import State
from everything.variants.checkpoints.shared_weights import needs_base
from everything.variants.records import hub


def fitting_variants(state: State) -> list[str]:
    """Return the variants whose networks take all tensors of a checkpoint, by their names here.

    It takes seconds the first time: every network is built, without values.
    """
    return [name for name in VARIANTS if _fits(state, name)]


def fitting_names(state: State, path: Path) -> list[str]:
    """Return what --variant can be for a checkpoint: variants, or the names of a folder's model.

    Args:
        state: Its tensors.
        path: The file, or a folder in transformers' layout.
    """
    kind = config_of(path).get("model_type") if (path / CONFIG).is_file() else None
    named = [name for name, record in hub.NAMED.items() if kind in record.options["kinds"]]
    found = named or fitting_variants(state)
    return found or ([f"{hub.PREFIX}{path}"] if kind in hub.MASK_GENERATION else [])


def _fits(state: State, variant: str) -> bool:
    made, record = _blueprint(variant), VARIANTS[variant]
    if made is None:
        return False
    plan = made.matching_names(state.keys())
    expected = plan.shapes()
    if needs_base(record, state):
        prefixes = record.base_prefixes
        expected = {n: shape for n, shape in expected.items() if not n.startswith(prefixes)}
    found = {n: tensor.shape for n, tensor in state.items() if not n.startswith(plan.unused)}
    return found == expected


@cache
def _blueprint(variant: str) -> Blueprint[Any] | None:
    record = VARIANTS[variant]
    module = record.network_module()
    if not hasattr(module, "blueprint"):  # a variant of another package may have none
        return None
    try:
        made: Blueprint[Any] = module.blueprint(**record.options)
    except ConfigError:  # its library is not installed
        return None
    return made
