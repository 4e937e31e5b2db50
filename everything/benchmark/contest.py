"""The contest: contenders take turns photo by photo, so that noise of the machine hits them all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product

import torch

from everything.batching import is_out_of_memory
from everything.benchmark.contenders import OURS, WAYS, Contender, Key
from everything.clock import Clock
from everything.errors import EverythingError
from everything.images import read_image
from everything.inputs import Source
from everything.rle import Rle

OOM = "OOM"
READ, OTHER = "read", "other"


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


def contest(
    contenders: Sequence[Contender],
    photos: Sequence[Source],
    repeats: int,
    warmup: int,
    synchronise: Callable[[], None] | None = None,
    step: Callable[[Sample], None] = lambda sample: None,
) -> Contest:
    """Let every contender segment every photo `repeats` times, in turns, and return what it took.

    warmup: how often each does the first photo before. step: called after each sample, those of
    the warm-up too (their round is negative). Who begins changes from photo to photo. Whoever
    runs out of memory has that as its last sample. So has a peer that fails for another reason;
    errors of this program are raised. An interrupt (Ctrl-C) ends it. Raises ImageError.
    """
    result, out = Contest(), set()
    with _little_garbage(), suppress(KeyboardInterrupt):
        result.interrupted = True
        for contender, photo, round_ in turns(contenders, len(photos), repeats, warmup):
            if contender.key in out:
                continue
            sample, masks = _sample(contender, photos[photo], round_, synchronise)
            if sample.failure:
                out.add(contender.key)
            if round_ >= 0 or sample.failure:
                result.samples.append(sample)
            if round_ == 0:
                result.masks[sample.key, sample.photo] = masks
            step(sample)
        result.interrupted = False
    return result


def turns(
    contenders: Sequence[Contender], photos: int, repeats: int, warmup: int
) -> Iterator[tuple[Contender, int, int]]:
    """Yield (contender, photo, round) in order: all contenders one after the other, then the next
    photo, then the next round. Negative rounds warm up on the first photo."""
    rounds = [(i - warmup, 0) for i in range(warmup)] + list(product(range(repeats), range(photos)))
    for turn, (round_, photo) in enumerate(rounds):
        # Nobody is always the one who comes after the slowest.
        start = turn % max(1, len(contenders))
        for contender in (*contenders[start:], *contenders[:start]):
            yield contender, photo, round_


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
    clock = Clock(synchronise)
    gc.collect()  # what others have left is not this one's time
    masks: list[Rle] = []
    failure = ""
    with clock.stage(READ):
        pixels = read_image(photo.path).pixels
    try:
        with clock.stage(OTHER):
            masks = contender.run(pixels, clock)
    except EverythingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            failure = OOM
        elif contender.key.by in (OURS, *WAYS):
            raise
        else:
            # A peer that cannot do a photo is a result, shown with its reason.
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if failure and torch.cuda.is_available():
        torch.cuda.empty_cache()
    seconds = {} if failure else dict(clock.seconds)
    key, name = contender.key, photo.name
    return Sample(key, name, round_, seconds, dict(clock.counts), failure), masks
