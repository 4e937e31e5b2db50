"""A thread beside the model's, for what comes before and after it."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Aside:
    """A thread that does one thing at a time; to hand one over to an executor takes longer."""

    def __init__(self, name: str) -> None:
        self._steps, self._ends = SimpleQueue[Any](), SimpleQueue[Any]()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def begin(self, step: Callable[[], Any]) -> None:
        """Let it do a step; its end is to be waited for before the next one begins."""
        self._steps.put(step)

    def end(self) -> Any:
        """Wait for the step that was begun; returns what it returned, raises what it raised."""
        result, error = self._ends.get()
        if error is not None:
            raise error
        return result

    def stop(self, wait: bool = False) -> None:
        """Begin nothing more. wait: for the step that was begun."""
        self._steps.put(None)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            try:
                self._ends.put((step(), None))
            except BaseException as error:  # it is the one who waits that it is for
                self._ends.put((None, error))
