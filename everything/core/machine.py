"""What this process may use of the machine: a container's limits (cgroups) count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the bytes of memory that this process and its children can still take.

    Args:
        cgroups: Where the cgroups are mounted.
        membership: File that lists the cgroups of this process.
    """
    left = int(psutil.virtual_memory().available)
    for folder in _folders("memory", cgroups, membership):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                left = min(left, most - now + _entry(folder / "memory.stat", cache))
    return max(0, left)


def core_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many cores' time the process may take; None if that is not limited.

    Args:
        cgroups: Where the cgroups are mounted.
        membership: File that lists the cgroups of this process.
    """
    found = []
    for folder in _folders("cpu", cgroups, membership):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        with suppress(OSError, ValueError):
            quota, period = map(int, (folder / "cpu.max").read_text("ascii").split())
        if quota and period and quota > 0:
            found.append(quota / period)
    return min(found, default=None)


def _folders(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of the process's cgroups and of all above them, for a controller.

    In a container the paths may be those of the host, which are not there: the root then counts.
    """
    try:
        lines = membership.read_text("ascii", "replace").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 has one tree, without a list of controllers; version 1 has one for each.
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroups / controller if controllers else cgroups
        place = top / path.strip("/")
        while place != top:
            yield place
            place = place.parent
        yield top


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None  # it is not there, or "max"


def _entry(file: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in file.read_text("ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
