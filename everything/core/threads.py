"""CPU cores and PyTorch threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from everything.core.machine import core_quota


def usable_cores() -> int:
    """Return how many cores this process may use, or the number of all if that is unknown.

    A container's share of the machine counts.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quota = core_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of PyTorch threads, and restore it at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
