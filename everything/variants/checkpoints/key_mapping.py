"""Tables that map the parameter names of a library's network to those of the official checkpoint.

A table is a list of (regular expression in the library's name, replacement), applied in order: it
reads from the name in the code to the name in the checkpoint. A `*` in the official name stands
for 0, 1, 2, …: the checkpoint stores the rows of that tensor as separate tensors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Size, Tensor, nn

from everything.errors import WeightsError
from everything.variants.checkpoints.reader import State

Table = Sequence[tuple[str, str]]
Network = TypeVar("Network", bound=nn.Module, covariant=True)


class UnfitWeights(WeightsError):
    """A checkpoint's names or shapes are not those of the network. problem: in which way."""

    def __init__(self, path: str, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"{path}: not weights of this variant: {problem}: give their variant with --variant"
        )


class Dialect(NamedTuple):
    """Other names under which checkpoints of the same network are saved: see `Blueprint`."""

    names: Table
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Blueprint(Generic[Network]):
    """A network without values (on the meta device) and how its checkpoint names them.

    Args:
        network: The network.
        names: The table of names.
        unused: Prefixes of the checkpoint's tensors that are not used.
        dialects: Other tables, of checkpoints saved by other programs.
    """

    network: Network
    names: Table = ()
    unused: tuple[str, ...] = ()
    dialects: tuple[Dialect, ...] = ()

    def official_names(self) -> dict[str, str]:
        """Return the official name of every parameter and buffer that the network saves."""
        names = {}
        for own in self.network.state_dict():
            official = own
            for pattern, replacement in self.names:
                official = re.sub(pattern, replacement, official)
            names[own] = official
        return names

    def matching_names(self, state: Collection[str]) -> Blueprint[Network]:
        """Return the same network with the table that fits most names of a checkpoint."""
        others = [replace(self, names=d.names, unused=d.unused) for d in self.dialects]
        return max([self, *others], key=lambda plan: len(plan.shapes().keys() & state))

    def shapes(self) -> dict[str, Size]:
        """Return the official names and shapes of all tensors that a checkpoint must have."""
        shapes: dict[str, Size] = {}
        tensors = self.network.state_dict()
        for own, official in self.official_names().items():
            shape = tensors[own].shape
            if "*" in official:
                row = Size((1, *shape[1:]))
                shapes |= {official.replace("*", str(i)): row for i in range(shape[0])}
            else:
                shapes[official] = shape
        return shapes

    def load(self, state: State, path: str) -> Network:
        """Return the network with the weights of a checkpoint; all names and shapes must match.

        The state's tensors become the network's parameters without a copy, unless their precision
        differs.

        Args:
            state: Tensors by their official name, or by that of a dialect.
            path: The checkpoint's path, for the error.

        Raises:
            UnfitWeights: Names or shapes do not match.
        """
        plan = self.matching_names(state.keys())
        used = {n: tensor for n, tensor in state.items() if not n.startswith(plan.unused)}
        _check(plan.shapes(), used, path)
        own = self.network.state_dict()
        fitted = {
            name: _tensor(used, official, own[name].shape).to(own[name].dtype)
            for name, official in plan.official_names().items()
        }
        self.network.load_state_dict(fitted, assign=True)
        fill_buffers(self.network)
        return self.network


def fill_buffers(module: nn.Module) -> None:
    """Compute the buffers that checkpoints do not save, in a module made on the meta device.

    Raises:
        RuntimeError: A tensor is left without values.
    """
    for part in module.modules():
        empty = {n: buffer for n, buffer in part._buffers.items() if buffer is not None}
        unsaved = {n for n in part._non_persistent_buffers_set if n in empty and empty[n].is_meta}
        for name in unsaved:
            part._buffers[name] = torch.empty_like(empty[name], device="cpu")
        if unsaved:
            part.init_non_persistent_buffers()  # type: ignore[operator]  # timm's layers have it
    left = [n for n, t in [*module.named_parameters(), *module.named_buffers()] if t.is_meta]
    if left:
        raise RuntimeError(f"{type(module).__name__}: no values for {', '.join(left)}")


def _check(expected: dict[str, Size], state: State, path: str) -> None:
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshapen = sorted(n for n in expected.keys() & state.keys() if state[n].shape != expected[n])
    problems = [("missing", missing), ("unknown", unexpected), ("of another shape", misshapen)]
    found = [f"{len(names)} {what} ({names[0]} …)" for what, names in problems if names]
    if found:
        raise UnfitWeights(path, ", ".join(found))


def _tensor(state: State, official: str, shape: Size) -> Tensor:
    if "*" not in official:
        return state[official]
    return torch.cat([state[official.replace("*", str(i))] for i in range(shape[0])])
