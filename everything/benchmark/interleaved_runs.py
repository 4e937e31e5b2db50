"""Timing in turns, image by image, so that noise of the machine affects all cases alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol, TypeVar

import torch

from everything.benchmark.flops import Work, work_of
from everything.benchmark.types import BenchmarkCase, Key
from everything.core.rle import Rle
from everything.core.stage_timer import StageTimer
from everything.errors import EverythingError, reason_of
from everything.io.images.decode import read_image
from everything.io.images.sources import Source
from everything.pipeline.adaptive_batch_size import is_out_of_memory

OOM = "OOM"
READ, OTHER = "read", "other"
_R = TypeVar("_R")


@dataclass(frozen=True)
class Sample:
    """One measurement: one case on one image.

    Args:
        key: The case.
        photo: Name of the image.
        round: Number of the round, from 0.
        seconds: Seconds by stage; `read` is the file, `other` what lies outside all stages.
        counts: Prompts, decoder calls and so on.
        failure: "" if it worked, OOM, or the reason.
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
class Measurements:
    """All samples, and the masks of the first round by case and image name."""

    interrupted: bool = False
    samples: list[Sample] = field(default_factory=list)
    masks: dict[tuple[Key, str], list[Rle]] = field(default_factory=dict)


class Runner(Protocol):
    """Measures one case, in this process or in another."""

    @property
    def key(self) -> Key:
        """Names the case."""
        ...

    def measure(self, photo: Source, round_: int) -> tuple[Sample, list[Rle]]:
        """Read an image and segment it.

        Raises:
            EverythingError: If the image cannot be read, or this program fails.
        """
        ...

    def work(self, photo: Source) -> Work | None:
        """Count the floating-point operations of an image; see flops.work_of."""
        ...


@dataclass(frozen=True)
class InProcessRunner:
    """Measures a case in this process. synchronise: waits for its device."""

    case: BenchmarkCase
    synchronise: Callable[[], None] | None = None

    @property
    def key(self) -> Key:
        """Names the case."""
        return self.case.key

    def measure(self, photo: Source, round_: int) -> tuple[Sample, list[Rle]]:
        """Read an image and segment it."""
        return _sample(self.case, photo, round_, self.synchronise)

    def work(self, photo: Source) -> Work | None:
        """Count the floating-point operations of an image."""
        return work_of(self.case, read_image(photo.path).pixels)


def run_interleaved(
    runners: Sequence[Runner],
    photos: Sequence[Source],
    repeats: int,
    warmup: int,
    step: Callable[[Sample], None] = lambda sample: None,
    into: Measurements | None = None,
) -> Measurements:
    """Segment every image `repeats` times with every runner, in turns.

    Which runner begins changes from image to image. A runner that runs out of memory drops out,
    with that as its last sample; so does another program that fails for any reason. Errors of this
    program are raised. An interrupt (Ctrl-C) ends the measurement.

    Args:
        runners: One per case.
        photos: The images.
        repeats: Number of rounds over all images.
        warmup: Number of untimed runs on the first image.
        step: Called after each sample, also of the warm-up, whose rounds are negative.
        into: Receives the samples, so that they are not lost if an error is raised.

    Returns:
        `into`, or new measurements.

    Raises:
        ImageError: If an image cannot be read.
    """
    result, out = Measurements() if into is None else into, set()
    with _little_garbage(), suppress(KeyboardInterrupt):
        result.interrupted = True
        for runner, photo, round_ in schedule(runners, len(photos), repeats, warmup):
            if runner.key in out:
                continue
            sample, masks = runner.measure(photos[photo], round_)
            if sample.failure:
                out.add(runner.key)
            if round_ >= 0 or sample.failure:
                result.samples.append(sample)
            if round_ == 0:
                result.masks[sample.key, sample.photo] = masks
            step(sample)
        result.interrupted = False
    return result


def schedule(
    runners: Sequence[_R], photos: int, repeats: int, warmup: int
) -> Iterator[tuple[_R, int, int]]:
    """Yield (runner, image, round): all runners, then the next image, then the next round.

    Negative rounds are the warm-up on the first image.
    """
    rounds = [(i - warmup, 0) for i in range(warmup)] + list(product(range(repeats), range(photos)))
    for turn, (round_, photo) in enumerate(rounds):
        # No runner always comes after the slowest one.
        start = turn % max(1, len(runners))
        for runner in (*runners[start:], *runners[:start]):
            yield runner, photo, round_


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Exclude loaded objects from garbage collection, which would scan them while timing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _sample(
    case: BenchmarkCase, photo: Source, round_: int, synchronise: Callable[[], None] | None
) -> tuple[Sample, list[Rle]]:
    timer = StageTimer(synchronise)
    gc.collect()  # garbage of other cases must not cost this one time
    masks: list[Rle] = []
    failure = ""
    with timer.stage(READ):
        pixels = read_image(photo.path).pixels
    try:
        with timer.stage(OTHER):
            masks = case.run(pixels, timer)
    except EverythingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            failure = OOM
        elif case.key.is_own:
            raise
        else:
            # That another program cannot segment an image is a result, shown with its reason.
            failure = f"{type(error).__name__}: {reason_of(error)}"
    if failure and torch.cuda.is_available():
        torch.cuda.empty_cache()
    seconds = {} if failure else dict(timer.seconds)
    key, name = case.key, photo.name
    return Sample(key, name, round_, seconds, dict(timer.counts), failure), masks
