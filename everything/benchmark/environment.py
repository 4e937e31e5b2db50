"""What a measurement depends on: the machine, its load, the versions of libraries."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from everything.core.threads import usable_cores
from everything.kernels.loader import INSTRUCTIONS

_LIBRARIES = ("segevery", "torch", "torchvision", "numpy")
# glibc and torch read these when a process starts; each can change times by a factor.
_VARIABLES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "OMP_", "MKL_", "PYTORCH_")


def machine(libraries: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the machine, its load now, the thread count, and the versions of libraries."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "kernels": next(iter(INSTRUCTIONS), None),  # of SAM's decoder; None: they were not built
        "memory_bytes": _memory(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*_LIBRARIES, *libraries)},
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
        "load": round(os.getloadavg()[0], 2),
    }


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set the number of torch's threads meanwhile; None keeps it."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def synchronise(device: torch.device) -> Callable[[], None] | None:
    """Return the function that waits for a device, or None if it runs synchronously."""
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return torch.mps.synchronize if device.type == "mps" else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
