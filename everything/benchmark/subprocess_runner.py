"""Measures a case in a separate process, with its own malloc, peak memory and crashes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Self

import torch

from everything.benchmark.cases import Loader, Spec
from everything.benchmark.environment import synchronise, threads
from everything.benchmark.flops import Work
from everything.benchmark.interleaved_runs import OOM, InProcessRunner, Sample
from everything.benchmark.memory import Peak, peak_resident, resident
from everything.benchmark.types import Key
from everything.core.device import device_of
from everything.core.rle import Rle
from everything.errors import EverythingError, JobError
from everything.io.images.sources import Source
from everything.pipeline.adaptive_batch_size import is_out_of_memory


class SubprocessRunner:
    """Measures a case in another process, which ends with the context.

    Raises what loading the case raises. A process killed by the system's OOM killer counts as OOM.

    Attributes:
        peak: Peak memory of the process so far.
    """

    def __init__(self, spec: Spec, thread_count: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (spec, thread_count, theirs)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with _environment(spec.environment):
            self._process.start()
        theirs.close()
        self.peak = Peak()
        self._key, self._failure = spec.key, ""
        try:
            self._answer()
        except BaseException:
            self._end()
            raise

    @property
    def key(self) -> Key:
        """Names the case."""
        return self._key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def measure(self, photo: Source, round_: int) -> tuple[Sample, list[Rle]]:
        """Read an image and segment it."""
        sample, masks = Sample(self._key, photo.name, round_, failure=OOM), list[Rle]()
        if answer := self._ask("measure", photo, round_):
            sample, masks, self.peak = answer
        if sample.failure:
            self.peak = Peak(failure=sample.failure)
        return sample, masks

    def work(self, photo: Source) -> Work | None:
        """Count the floating-point operations of an image."""
        work: Work | None = self._ask("work", photo)
        return work

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the case's server; return None if that runs out of memory."""
        if self._failure:
            return None
        self._pipe.send((name, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            answer = self._crashed()
        if answer == OOM:
            self._failure = OOM
            return None
        if isinstance(answer, EverythingError):
            raise answer
        return answer

    def _crashed(self) -> str:
        self._process.join()
        if self._process.exitcode != -signal.SIGKILL:
            code = self._process.exitcode
            raise JobError(
                f"{self._key}: its process crashed (exit code {code}): see its output above"
            )
        return OOM  # nobody but the system's OOM killer sends SIGKILL to it

    def _end(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()


class _CaseServer:
    """The case, in the other process."""

    def __init__(self, spec: Spec) -> None:
        self._device = device_of(spec.recipe.compute)
        self._here = InProcessRunner(Loader()(spec), synchronise(self._device))
        self._ready = resident()
        gc.collect()
        gc.freeze()  # no garbage collection of loaded objects while timing

    def measure(self, photo: Source, round_: int) -> tuple[Sample, list[Rle], Peak]:
        sample, masks = self._here.measure(photo, round_)
        gpu = 0
        if self._device.type == "cuda":
            gpu = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.empty_cache()  # the next case needs the memory
        return sample, masks, Peak(self._ready, peak_resident(), gpu)

    def work(self, photo: Source) -> Work | None:
        return self._here.work(photo)


def _serve(spec: Spec, thread_count: int | None, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    with threads(thread_count):
        try:
            served = _CaseServer(spec)
            pipe.send(None)
            while True:
                name, arguments = pipe.recv()
                pipe.send(getattr(served, name)(*arguments))
        except EOFError:
            pass  # the parent process has ended
        except EverythingError as error:
            pipe.send(error)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            pipe.send(OOM)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
