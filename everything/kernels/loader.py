"""Load the compiled kernels, if they were built.

They are built when the package is installed, if there is a C++ compiler. Without them, torch and
numpy compute the same more slowly.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

INTERFACE = 3  # module.cpp's

_log = logging.getLogger(__name__)


def usable(built: Any) -> Any:
    """Return the compiled module, or None if it was built from other sources than these."""
    if getattr(built, "INTERFACE", 1) == INTERFACE:
        return built
    _log.warning("the compiled kernels are of another version, and not used: install again")
    return None


kernels: Any
try:
    from everything.kernels import _kernels

    kernels = usable(_kernels)
except ImportError:  # no compiler when this was installed
    kernels = None

INSTRUCTIONS: tuple[str, ...] = () if kernels is None else kernels.INSTRUCTIONS
TILE: int = 1 if kernels is None else kernels.TILE


@contextmanager
def without_kernels() -> Iterator[None]:
    """Do without the kernels for images prepared in this context, to count torch's operations."""
    global kernels
    kept, kernels = kernels, None
    try:
        yield
    finally:
        kernels = kept


def in_threads(run: Callable[[slice], None], count: int) -> None:
    """Call `run` with slices of `count` items, one slice per PyTorch thread, in parallel.

    Kernels release the GIL, and the result for an item does not depend on its slice.

    Args:
        run: Processes a slice of the items.
        count: Number of items.
    """
    shares = min(torch.get_num_threads(), count)
    ends = [count * i // max(shares, 1) for i in range(shares + 1)]
    parts = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
    if len(parts) < 2:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(run, parts))
