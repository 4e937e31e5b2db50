"""Load the compiled kernels, if they were built.

They are built when the package is installed, if there is a C++ compiler. Without them, torch and
numpy compute the same more slowly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

kernels: Any
try:
    from everything.kernels import _kernels as kernels
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
