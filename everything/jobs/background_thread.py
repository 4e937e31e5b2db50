"""A background thread that reads or writes while the model works."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class BackgroundThread:
    """A thread that runs one step at a time, with less overhead than an executor has."""

    def __init__(self, name: str) -> None:
        self._steps, self._ends = SimpleQueue[Any](), SimpleQueue[Any]()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def begin(self, step: Callable[[], Any]) -> None:
        """Start a step; call `end` before the next one."""
        self._steps.put(step)

    def end(self) -> Any:
        """Wait for the step; returns what it returned, raises what it raised."""
        result, error = self._ends.get()
        if error is not None:
            raise error
        return result

    def stop(self, wait: bool = False) -> None:
        """Stop the thread. wait: until the current step has ended."""
        self._steps.put(None)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            try:
                self._ends.put((step(), None))
            except BaseException as error:  # raised by `end`, in the waiting thread
                self._ends.put((None, error))
