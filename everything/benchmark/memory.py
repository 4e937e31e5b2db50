"""How much memory this process holds and has held."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peak:
    """Bytes. ready: resident with the model loaded. peak: the most that was ever resident. gpu:
    the most that torch ever held on the GPU. failure: "", OOM or the reason.
    """

    ready: int = 0
    peak: int = 0
    gpu: int = 0
    failure: str = ""


def resident() -> int:
    """Return the bytes of memory that this process holds now (its peak where that is unknown)."""
    return _status("VmRSS") or peak_resident()


def peak_resident() -> int:
    """Return the most bytes that this process has ever held.

    ru_maxrss is only the second choice: on Linux it begins with the size of the parent.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM") or (peak if sys.platform == "darwin" else peak * 1024)


def _status(name: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    for line in status.read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0
