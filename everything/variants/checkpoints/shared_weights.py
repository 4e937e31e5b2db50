"""Completes checkpoints that hold part of a network with another variant's checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import State, read_state
from everything.variants.spec import VariantRecord


def needs_base(record: VariantRecord, names: Iterable[str]) -> bool:
    """Return whether a checkpoint lacks the tensors that its variant takes from a base variant.

    Args:
        record: The variant.
        names: Names of the checkpoint's tensors.
    """
    prefixes = record.base_prefixes
    return bool(record.base_variant) and not any(name.startswith(prefixes) for name in names)


def completed(state: State, record: VariantRecord) -> State:
    """Return a checkpoint with the tensors that it lacks added from the base variant's official
    checkpoint.

    Raises:
        WeightsError: That checkpoint is not available.
    """
    if not needs_base(record, state):
        return state
    base = read_state(VARIANTS[record.base_variant].weights.path())
    added = {name: value for name, value in base.items() if name.startswith(record.base_prefixes)}
    return {**state, **added}
