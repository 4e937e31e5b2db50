"""Checkpoints that hold half a network: the rest is another variant's."""

from __future__ import annotations

from everything.variants import VARIANTS
from everything.variants.weights import State, read_state


def borrowed(state: State, prefixes: tuple[str, ...], variant: str) -> State:
    """Return a state with the tensors whose names start with `prefixes`: its own or, if it has
    none, those of a variant's official checkpoint.

    Raises WeightsError if that checkpoint cannot be had.
    """
    if any(name.startswith(prefixes) for name in state):
        return state
    lender = read_state(VARIANTS[variant].weights.path())
    return {**state, **{n: tensor for n, tensor in lender.items() if n.startswith(prefixes)}}
