"""Checkpoints that hold half a network: the rest is another variant's."""

from __future__ import annotations

from collections.abc import Iterable

from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import State, read_state
from everything.variants.spec import VariantRecord


def borrows(record: VariantRecord, names: Iterable[str]) -> bool:
    """Return whether a checkpoint of a variant, of which these are the names, lacks what the
    variant's lender has."""
    return bool(record.lender) and not any(name.startswith(record.lent) for name in names)


def completed(state: State, record: VariantRecord) -> State:
    """Return a checkpoint with what it has not from the official checkpoint of the lender.

    Raises WeightsError if that cannot be had.
    """
    if not borrows(record, state):
        return state
    lender = read_state(VARIANTS[record.lender].weights.path())
    lent = {name: tensor for name, tensor in lender.items() if name.startswith(record.lent)}
    return {**state, **lent}
