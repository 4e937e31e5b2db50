"""Peak memory of one contender, in a process of its own where nothing else was ever loaded."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from everything.batching import is_out_of_memory
from everything.benchmark.contenders import Loader, Spec
from everything.benchmark.contest import OOM
from everything.benchmark.machine import threads
from everything.clock import Clock
from everything.errors import EverythingError
from everything.images import read_image
from everything.inputs import Source


@dataclass(frozen=True)
class Peak:
    """Bytes. ready: resident with the model loaded and the photo read. peak: the most that was
    ever resident. gpu: the most that torch ever held on the GPU. failure: "", OOM or the reason.
    """

    ready: int = 0
    peak: int = 0
    gpu: int = 0
    failure: str = ""


def peak_of(spec: Spec, photo: Source, thread_count: int | None = None) -> Peak:
    """Return the peak memory of a contender that segments one photo, once, in a new process.

    A process that the system kills for its memory is OOM, too.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(spec, photo, thread_count, theirs))
    process.start()
    theirs.close()
    try:
        peak: Peak = ours.recv()
    except EOFError:
        process.join()
        # Nobody but the system's OOM killer sends SIGKILL to it.
        killed = process.exitcode == -9
        peak = Peak(failure=OOM if killed else f"the process ended with {process.exitcode}")
    process.join()
    return peak


def _measure(spec: Spec, photo: Source, thread_count: int | None, to: Connection) -> None:
    try:
        with threads(thread_count):
            run = Loader()(spec).run
            pixels = read_image(photo.path).pixels
            ready = resident()
            run(pixels, Clock())
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        to.send(Peak(ready, peak_resident(), gpu))
    except EverythingError as error:
        to.send(Peak(failure=str(error)))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        to.send(Peak(failure=OOM if is_out_of_memory(error) else reason))


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
