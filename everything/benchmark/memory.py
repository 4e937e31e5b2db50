"""Memory of this process: now and at its peak."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peak:
    """Peak memory of a case, in bytes.

    Args:
        ready: Resident with the model loaded.
        peak: Resident at the peak.
        gpu: Allocated by torch on the GPU at the peak.
        failure: "", OOM or the reason.
    """

    ready: int = 0
    peak: int = 0
    gpu: int = 0
    failure: str = ""


def resident() -> int:
    """Return the resident bytes of this process now (its peak where that is unknown)."""
    return _status("VmRSS") or peak_resident()


def peak_resident() -> int:
    """Return the peak resident bytes of this process.

    ru_maxrss is the fallback: on Linux it starts at the size of the parent process.
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
