"""Load the compiled kernels, if they were built.

They are built when the package is installed, if there is a C++ compiler. Without them, torch and
numpy do the same more slowly.
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
    """Switch the kernels off for images prepared meanwhile, to count torch's operations."""
    global kernels
    kept, kernels = kernels, None
    try:
        yield
    finally:
        kernels = kept


def in_threads(run: Callable[[slice], None], count: int) -> None:
    """Run over all of `count` things, a share of them in each of torch's threads.

    Kernels let other threads run, and what they make of one thing does not depend on the others.
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
