"""StageTimer: seconds per stage, and counts, of one image."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager

STAGES = ("read", "encode", "propose", "decode", "select", "finish", "write")
COUNTS = ("prompts", "decoder_calls", "candidates", "masks")


class Overtime(Exception):
    """The time limit of an image is reached; `stage` is the one that would have been next."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"out of time before {stage}")
        self.stage = stage


class StageTimer:
    """Measures exclusive wall time: a nested stage pauses the outer one.

    Args:
        synchronise: Called at each change of stage, to wait for a GPU; without it, only the time to
            launch GPU work is measured.
        limit: Seconds after which no stage begins. Each batch of prompts is decoded in a stage of
            its own, so that the limit takes effect soon.
        unlimited: Stages that begin after the limit, too.
    """

    def __init__(
        self,
        synchronise: Callable[[], None] | None = None,
        limit: float | None = None,
        unlimited: Container[str] = (),
    ) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self._synchronise = synchronise
        self.limit = limit
        self._unlimited = unlimited
        self._total = 0.0
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the context to `name`, also if it raises.

        Raises:
            Overtime: The time limit is reached.
        """
        self._account()
        if self.limit is not None and self._total > self.limit and name not in self._unlimited:
            raise Overtime(name)
        self._open.append(name)
        try:
            yield
        finally:
            self._account()
            self._open.pop()

    @contextmanager
    def shared(self, name: str, timers: Sequence[StageTimer]) -> Iterator[None]:
        """Divide the time inside the context equally among timers.

        Args:
            name: The stage.
            timers: The timers, with this one among them; a timer may occur more than once.
        """
        before = self.seconds[name]
        with self.stage(name):
            yield
        part = (self.seconds[name] - before) / len(timers)
        self._add(name, -part * len(timers))
        for timer in timers:
            timer._add(name, part)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] += seconds
        self._total += seconds

    def _account(self) -> None:
        """Add the time since the last change of stage to the current stage."""
        if self._synchronise is not None:
            self._synchronise()
        now = time.perf_counter()
        if self._open:
            self._add(self._open[-1], now - self._since)
        self._since = now

    def timing(self) -> dict[str, float | int]:
        """Return the seconds of every stage, their total, and every count; 0 if none."""
        stages: dict[str, float | int] = {s: round(self.seconds.get(s, 0.0), 6) for s in STAGES}
        stages["total"] = round(sum(self.seconds.values()), 6)
        return stages | {name: self.counts[name] for name in COUNTS}
