"""The contest: contenders take turns photo by photo, so that noise of the machine hits them all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol, TypeVar

import torch

from everything.benchmark.flops import Work, work_of
from everything.benchmark.types import Contender, Key
from everything.core.rle import Rle
from everything.core.stage_timer import StageTimer
from everything.errors import EverythingError
from everything.io.images.decode import read_image
from everything.io.images.sources import Source
from everything.pipeline.adaptive_batch_size import is_out_of_memory

OOM = "OOM"
READ, OTHER = "read", "other"
_R = TypeVar("_R")


@dataclass(frozen=True)
class Sample:
    """One contender, one photo, once.

    seconds: per stage, `read` for the file, `other` for what lies outside all stages. counts:
    prompts, decoder_calls and so on. failure: "" if it worked, OOM, or the reason.
    """

    key: Key
    photo: str
    round: int
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    failure: str = ""

    @property
    def latency(self) -> float:
        """Seconds from pixels to masks: all stages but reading the file."""
        return sum(value for stage, value in self.seconds.items() if stage != READ)


@dataclass
class Contest:
    """Samples, and the masks of the first round by contender and photo."""

    interrupted: bool = False
    samples: list[Sample] = field(default_factory=list)
    masks: dict[tuple[Key, str], list[Rle]] = field(default_factory=dict)


class Rival(Protocol):
    """A contender that is somewhere."""

    @property
    def key(self) -> Key:
        """Which one it is."""
        ...

    def turn(self, photo: Source, round_: int) -> tuple[Sample, list[Rle]]:
        """Read a photo and segment it; raises ImageError, and this program's own errors."""
        ...

    def work(self, photo: Source) -> Work | None:
        """Count its operations for a photo; see flops.work_of."""
        ...


@dataclass(frozen=True)
class InProcess:
    """A contender in this process. synchronise: waits for its device."""

    contender: Contender
    synchronise: Callable[[], None] | None = None

    @property
    def key(self) -> Key:
        """Which one it is."""
        return self.contender.key

    def turn(self, photo: Source, round_: int) -> tuple[Sample, list[Rle]]:
        """Read a photo and segment it."""
        return _sample(self.contender, photo, round_, self.synchronise)

    def work(self, photo: Source) -> Work | None:
        """Count its operations for a photo."""
        return work_of(self.contender, read_image(photo.path).pixels)


def contest(
    rivals: Sequence[Rival],
    photos: Sequence[Source],
    repeats: int,
    warmup: int,
    step: Callable[[Sample], None] = lambda sample: None,
    into: Contest | None = None,
) -> Contest:
    """Let every rival segment every photo `repeats` times, in turns, and return what it took.

    warmup: how often each does the first photo before. step: called after each sample, those of
    the warm-up too (their round is negative). into: what is filled, so that whoever has it has all
    there is when an error ends it. Who begins changes from photo to photo. Whoever
    runs out of memory has that as its last sample. So has a peer that fails for another reason;
    errors of this program are raised. An interrupt (Ctrl-C) ends it. Raises ImageError.
    """
    result, out = Contest() if into is None else into, set()
    with _little_garbage(), suppress(KeyboardInterrupt):
        result.interrupted = True
        for rival, photo, round_ in turns(rivals, len(photos), repeats, warmup):
            if rival.key in out:
                continue
            sample, masks = rival.turn(photos[photo], round_)
            if sample.failure:
                out.add(rival.key)
            if round_ >= 0 or sample.failure:
                result.samples.append(sample)
            if round_ == 0:
                result.masks[sample.key, sample.photo] = masks
            step(sample)
        result.interrupted = False
    return result


def turns(
    rivals: Sequence[_R], photos: int, repeats: int, warmup: int
) -> Iterator[tuple[_R, int, int]]:
    """Yield (rival, photo, round) in order: all rivals one after the other, then the next photo,
    then the next round. Negative rounds warm up on the first photo."""
    rounds = [(i - warmup, 0) for i in range(warmup)] + list(product(range(repeats), range(photos)))
    for turn, (round_, photo) in enumerate(rounds):
        # Nobody is always the one who comes after the slowest.
        start = turn % max(1, len(rivals))
        for rival in (*rivals[start:], *rivals[:start]):
            yield rival, photo, round_


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep what is loaded out of the garbage collector's sight: it would look at all of it in
    the middle of a measurement, and before each."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _sample(
    contender: Contender, photo: Source, round_: int, synchronise: Callable[[], None] | None
) -> tuple[Sample, list[Rle]]:
    timer = StageTimer(synchronise)
    gc.collect()  # what others have left is not this one's time
    masks: list[Rle] = []
    failure = ""
    with timer.stage(READ):
        pixels = read_image(photo.path).pixels
    try:
        with timer.stage(OTHER):
            masks = contender.run(pixels, timer)
    except EverythingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            failure = OOM
        elif contender.key.is_ours:
            raise
        else:
            # A peer that cannot do a photo is a result, shown with its reason.
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if failure and torch.cuda.is_available():
        torch.cuda.empty_cache()
    seconds = {} if failure else dict(timer.seconds)
    key, name = contender.key, photo.name
    return Sample(key, name, round_, seconds, dict(timer.counts), failure), masks
