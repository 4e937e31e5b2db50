"""CUDA graphs: all kernels of a network for one shape of input, launched as one.

Not measured on a GPU yet, so off by default (`compute.cuda_graphs`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Run = Callable[..., Any]
Replay = Callable[[Tensor], Any]

MOST = 8  # shapes: each graph keeps the memory of its intermediate results
_WARM_UP = 3  # runs before a recording, in which libraries choose kernels and reserve memory
_log = logging.getLogger(__name__)


class Replayed:
    """A function of a tensor and constants that is recorded at its first call for a shape, and
    replayed at later ones.

    Args:
        run: The function. It must not wait for the device, nor depend on the tensor's values
            otherwise than by kernels. What cannot be recorded is run as it is, with a warning.
        record: Records it for an input, and returns what replays it.
    """

    def __init__(self, run: Run, record: Callable[[Replay, Tensor], Replay] | None = None) -> None:
        self._run, self._record = run, record or recorded
        self._replays: dict[Any, Replay] = {}

    def __call__(self, x: Tensor, *constants: Any, **named: Any) -> Any:
        """Return what the function returns; the tensors are the caller's own."""

        def run(x: Tensor) -> Any:
            return self._run(x, *constants, **named)

        key = (x.shape, x.stride(), x.dtype, repr(constants), repr(sorted(named.items())))
        if key not in self._replays:
            self._replays[key] = run if len(self._replays) >= MOST else self._tried(run, x)
        return self._replays[key](x)

    def _tried(self, run: Replay, x: Tensor) -> Replay:
        try:
            return self._record(run, x)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            _log.warning("no CUDA graph for inputs of %s: %s", tuple(x.shape), reason)
            return run


def recorded(run: Replay, x: Tensor) -> Replay:
    """Record a function's kernels for inputs like x, and return what replays them."""
    given, here = x.clone(), torch.cuda.current_stream(x.device)
    aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            run(given)
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(x.device), torch.cuda.graph(graph):
        found = run(given)

    def replay(x: Tensor) -> Any:
        given.copy_(x)
        graph.replay()
        # The next replay overwrites what this one returned.
        return tree_map(_copied, found)

    return replay


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
