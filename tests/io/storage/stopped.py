"""Kill a process before each of its changes of the disk, one after the other."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("open", "mkdir", "fsync", "fstat", "replace", "rename", "unlink", "rmdir")
_context = multiprocessing.get_context("fork")


def stopped_at_every_step(
    home: Path,
    prepare: Callable[[Path], object],
    work: Callable[[Path], object],
    check: Callable[[Path], object],
) -> int:
    """Do some work in a new folder again and again, killed at the first call of CHANGES, at the
    second and so on, and at last not at all; check the folder each time.

    Returns:
        How often it was killed.
    """
    for number in itertools.count():
        folder = home / f"{number:03}"
        folder.mkdir()
        prepare(folder)
        process = _context.Process(target=_stopping, args=(work, folder, number))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), f"{folder}: code {process.exitcode}"
        check(folder)
        if process.exitcode == 0:
            return number
    raise AssertionError


def _stopping(work: Callable[[Path], object], folder: Path, number: int) -> None:
    remaining = itertools.count(number, -1)

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*arguments: Any, **options: Any) -> Any:
            if next(remaining) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return guard

    for name in CHANGES:
        setattr(os, name, guarded(getattr(os, name)))
    work(folder)
