"""What a container may use of its machine."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from everything.core import threads
from everything.core.machine import available_memory, core_quota
from everything.core.threads import usable_cores

MIB = 2**20


def tree(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """Write the files of cgroups, and one that says that this process is in /pod/box."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    one_tree = any(name.endswith(".max") for name in files)
    older = "3:cpu,cpuacct:/pod/box\n5:memory:/pod/box\n"
    (folder / "self").write_text("0::/pod/box\n" if one_tree else older)
    return folder, folder / "self"


def test_the_tightest_limit_of_all_groups_counts(tmp_path: Path) -> None:
    places = tree(
        tmp_path,
        {
            "cpu.max": "max 100000\n",
            "pod/cpu.max": "150000 100000\n",
            "pod/box/cpu.max": "800000 100000\n",
            "pod/memory.max": "max\n",
            "pod/memory.current": f"{900 * MIB}\n",
            "pod/box/memory.max": f"{64 * MIB}\n",
            "pod/box/memory.current": f"{60 * MIB}\n",
            "pod/box/memory.stat": f"anon 5\ninactive_file {20 * MIB}\n",
        },
    )
    assert core_quota(*places) == 1.5
    assert available_memory(*places) == 24 * MIB  # what files fill can be had back


def test_the_older_files_say_the_same(tmp_path: Path) -> None:
    places = tree(
        tmp_path,
        {
            "cpu/cpu.cfs_quota_us": "300000\n",  # the container's, whose path is the host's
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{64 * MIB}\n",
            "memory/memory.usage_in_bytes": f"{70 * MIB}\n",
            "memory/memory.stat": f"total_inactive_file {1 * MIB}\n",
        },
    )
    assert core_quota(*places) == 3
    assert available_memory(*places) == 0


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    places = tree(tmp_path, {"cpu.max": "max 100000\n", "memory.max": "max\n"})
    assert core_quota(*places) is None
    assert 0.5 < available_memory(*places) / psutil.virtual_memory().available < 2
    nowhere = tmp_path / "a", tmp_path / "b"
    assert core_quota(*nowhere) is None
    assert available_memory(*nowhere) > 0


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (2.5, 2), (0.3, 1), (9.0, 4)])
def test_cores_are_as_many_as_the_container_has(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(threads, "core_quota", lambda: quota)
    assert usable_cores() == cores
