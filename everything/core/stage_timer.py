"""Clock: seconds per stage and counts of one image."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager

STAGES = ("read", "encode", "propose", "decode", "select", "finish", "write")
COUNTS = ("prompts", "decoder_calls", "candidates", "masks")


class Overtime(Exception):
    """The time of an image is used up. stage: the one that would have been next."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"out of time before {stage}")
        self.stage = stage


class StageTimer:
    """Adds up exclusive wall time: a stage inside another stops the outer one meanwhile.

    synchronise: called at each change of stage, to let a GPU finish what it was given; without
    it the stages of a GPU run are those of launching. limit: seconds, after which no stage begins:
    each batch of prompts is decoded in one of its own, so that this is soon.
    unlimited: stages that begin after the limit, too.
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
        """Count the time spent inside under `name`, whatever way it is left; raises Overtime."""
        self._settle()
        if self.limit is not None and self._total > self.limit and name not in self._unlimited:
            raise Overtime(name)
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    @contextmanager
    def shared(self, name: str, clocks: Sequence[StageTimer]) -> Iterator[None]:
        """Count the time spent inside for all of some clocks, this one among them, to equal parts;
        a clock may be there more than once."""
        before = self.seconds[name]
        with self.stage(name):
            yield
        part = (self.seconds[name] - before) / len(clocks)
        self._add(name, -part * len(clocks))
        for timer in clocks:
            timer._add(name, part)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] += seconds
        self._total += seconds

    def _settle(self) -> None:
        if self._synchronise is not None:
            self._synchronise()
        now = time.perf_counter()
        if self._open:
            self._add(self._open[-1], now - self._since)
        self._since = now

    def timing(self) -> dict[str, float | int]:
        """Return every stage in seconds, their total, and every count; zero if it did not occur."""
        stages: dict[str, float | int] = {s: round(self.seconds.get(s, 0.0), 6) for s in STAGES}
        stages["total"] = round(sum(self.seconds.values()), 6)
        return stages | {name: self.counts[name] for name in COUNTS}
