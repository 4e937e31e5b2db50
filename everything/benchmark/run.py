"""`bench`: from names to a report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from everything.benchmark.contenders import Spec
from everything.benchmark.environment import machine, threads
from everything.benchmark.flops import Work, products_per_second
from everything.benchmark.interleaved_runs import Contest, Rival, Sample, contest
from everything.benchmark.mask_agreement import Agreement, agreement
from everything.benchmark.memory import Peak
from everything.benchmark.plan import Plan, Say, Settings
from everything.benchmark.recall import marked_photos, recall_of
from everything.benchmark.reference_tools import PEERS
from everything.benchmark.report import Report
from everything.benchmark.resize import resized
from everything.benchmark.subprocess_runner import InSubprocess
from everything.benchmark.types import OURS, TUNED, WAYS, Build, Key
from everything.core.device import device_of
from everything.errors import ConfigError, InputError
from everything.io.images.decode import read_image
from everything.io.images.sources import Source
from everything.recipes.build import build as build_pipeline

Keep = Callable[[Report], None]
_EVERY = 30.0  # s


def bench(
    photos: Sequence[Source],
    variants: Sequence[str],
    samplers: Sequence[str] = ("grid-32",),
    *,
    against: Sequence[str] = (),
    repeats: int = 3,
    warmup: int = 1,
    megapixels: float | None = None,
    thread_count: int | None = None,
    random_seed: int | None = None,
    apart: bool | None = None,
    memory: bool = True,
    flops: bool = False,
    config: Path | str | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    truth: Path | None = None,
    split: str | None = None,
    say: Say = lambda line: None,
    keep: Keep = lambda report: None,
    build: Build = build_pipeline,
) -> Report:
    """Time every variant with every sampler on the photos, in turns, and return what it took.

    variants: names, or NAME=CHECKPOINT. samplers: names, or boxes-N for N random box prompts
    (mean of the survey's SegAny test). against: peers by name, which do each grid as well, and
    WAYS of this program's own, which do all; each of them, and "everything", also as NAME+malloc.
    repeats: rounds over all photos. warmup: untimed ones on the first photo. megapixels:
    the photos are brought to that size before. thread_count: of
    torch, None leaves it. random_seed: variants whose weights do not come with the program get
    random ones. apart: each contender in a process of its own; None: if there are peers. memory:
    the peak of each, over all photos if they are apart, else on the largest one in a process of
    its own. flops: operations of this program on the first photo and what the machine could do at
    best. config, sets,
    flags: settings for all, as of loading.resolve. truth, split: what is marked in the photos,
    as of evaluate, for the recall of what was found. say: told how it goes on. keep: given what
    there is by then, every half minute and before an error is raised. build: makes a pipeline, in
    this process and in others.

    What a peer cannot do is left out, with a note. Raises ConfigError, InputError, WeightsError
    and ImageError.
    """
    _check(photos, variants, samplers, against, repeats, warmup)
    peers = list(dict.fromkeys(p for p in map(_program, against) if p in PEERS))
    apart = _apart(apart, against, bool(peers))
    if truth is not None and megapixels is not None:
        raise ConfigError("--megapixels: the truth has their own size: leave one out")
    names = [photo.name for photo in photos]
    marked = {} if truth is None else marked_photos(truth, split, names)
    with ExitStack() as stack:
        stack.enter_context(threads(thread_count))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everything-bench-")))
        if megapixels is not None:
            photos = resized(photos, megapixels, folder)
        settings = Settings(config, tuple(sets), dict(flags or {}), build)
        plan = Plan(settings, photos, folder, random_seed, say)
        for name in variants:
            plan.add(name, samplers, against)
        rivals = plan.load(stack, apart, thread_count)
        alone = [spec for spec in plan.specs if spec.key in {rival.key for rival in rivals}]
        peaks = _peaks(alone, photos, thread_count, say) if memory and not apart else {}
        about = machine(tuple(PEERS[name].package for name in peers))
        device = device_of(plan.specs[0].recipe.compute)
        rates = _rates(flops, device)
        found, work = Contest(), dict[Key, Work]()
        asked = {
            "photos": _photos(photos),
            "repeats": repeats,
            "warmup": warmup,
            "random_seed": random_seed,
            "apart": apart,
            "order": _order(variants, samplers, against),
            "recipes": {str(s.key): s.recipe.model_dump(mode="json") for s in alone},
        }

        def so_far(*notes: str) -> Report:
            """All but what takes long to work out."""
            load = round(os.getloadavg()[0], 2)
            return Report(
                machine=about | {"flops_per_second": max(rates, default=None), "load_after": load},
                settings=asked | {"interrupted": found.interrupted},
                samples=found.samples,
                memory=_peaks_of(rivals) if memory and apart else peaks,
                work=work,
                notes=plan.notes + _notes(found, peers) + list(notes),
            )

        with _kept(keep, so_far) as grown:
            step = _told(say, len(rivals) * (warmup + repeats * len(photos)), grown)
            # The long part: an interrupt ends it, and what there is by then is reported.
            contest(rivals, photos, repeats, warmup, step, found)
            rates += _rates(flops, device)
            work |= _work(found, rivals, photos[0], say) if flops else {}
        recall = recall_of(marked, found.masks) if marked else {}
        return replace(so_far(), agreement=_agreement(found), recall=recall)


@contextmanager
def _kept(keep: Keep, so_far: Callable[..., Report]) -> Iterator[Callable[[], None]]:
    """Keep a report now and then, whenever what is given is called, and when there is an error."""
    last = monotonic()

    def grown() -> None:
        nonlocal last
        if monotonic() - last >= _EVERY:  # to keep it is not free, and the machine is measured
            keep(so_far())
            last = monotonic()

    try:
        yield grown
    except BaseException as error:
        keep(so_far(f"ended early: {type(error).__name__}: {' '.join(str(error).split())}"))
        raise


def _check(
    photos: Sequence[Source],
    variants: Sequence[str],
    samplers: Sequence[str],
    against: Sequence[str],
    repeats: int,
    warmup: int,
) -> None:
    if not photos:
        raise InputError("no photos to measure with: name some, or use --demo")
    if not variants or not samplers:
        raise ConfigError("nothing to measure: name at least one variant and one sampler")
    if repeats < 1 or warmup < 0:
        raise ConfigError(f"{repeats} repeats, {warmup} for warm-up: at least 1 and 0")
    for name in against:
        if _program(name) not in (*PEERS, *WAYS) and name != OURS + TUNED:
            known = ", ".join((*PEERS, *WAYS))
            raise ConfigError(
                f"--against {name}: not a known peer; known: {known}, {OURS + TUNED}, and any of "
                f"them with {TUNED}"
            )


def _program(by: str) -> str:
    return by.removesuffix(TUNED)


def _apart(wanted: bool | None, against: Sequence[str], has_peers: bool) -> bool:
    tuned = [name for name in against if name.endswith(TUNED)]
    if tuned and wanted is False:
        raise ConfigError(f"{tuned[0]}: needs a process of its own: leave --no-apart out")
    return bool(tuned) or has_peers if wanted is None else wanted


def _told(say: Say, turns: int, grown: Callable[[], None]) -> Callable[[Sample], None]:
    turn = count(1)

    def step(sample: Sample) -> None:
        which = f"round {sample.round + 1}" if sample.round >= 0 else "warm-up"
        took = sample.failure or f"{sample.latency:.2f} s, {sample.counts.get('masks', 0)} masks"
        say(f"{next(turn)}/{turns}: {which}, {sample.photo}: {sample.key}: {took}")
        grown()

    return step


def _order(variants: Sequence[str], samplers: Sequence[str], against: Sequence[str]) -> list[str]:
    names = [name.partition("=")[0] for name in variants]
    return list(dict.fromkeys([*names, *samplers, OURS, *against]))


def _photos(photos: Sequence[Source]) -> list[dict[str, Any]]:
    sizes = [read_image(photo.path) for photo in photos]
    return [
        {"name": photo.name, "width": read.width, "height": read.height}
        for photo, read in zip(photos, sizes, strict=True)
    ]


def _rates(flops: bool, device: torch.device) -> list[float]:
    return [products_per_second(device)] if flops else []


def _peaks(
    specs: Sequence[Spec], photos: Sequence[Source], thread_count: int | None, say: Say
) -> dict[Key, Peak]:
    largest = max(photos, key=lambda photo: read_image(photo.path).pixels.size)
    peaks = {}
    for spec in specs:
        say(f"memory of {spec.key}")
        with InSubprocess(spec, thread_count) as one:
            one.turn(largest, 0)
            peaks[spec.key] = one.peak
    return peaks


def _peaks_of(rivals: Sequence[Rival]) -> dict[Key, Peak]:
    return {rival.key: rival.peak for rival in rivals if isinstance(rival, InSubprocess)}


def _work(found: Contest, rivals: Sequence[Rival], photo: Source, say: Say) -> dict[Key, Work]:
    """Of this program alone: a peer's operations are those of the way `plain`."""
    done = {s.key for s in found.samples} - {s.key for s in found.samples if s.failure}
    work = {}
    for rival in rivals:
        if rival.key not in done or not rival.key.is_ours or found.interrupted:
            continue
        say(f"operations of {rival.key}")
        counted = rival.work(photo)
        if counted is not None:
            work[rival.key] = counted
    return work


def _notes(found: Contest, peers: Sequence[str]) -> list[str]:
    failed = [f"{s.key}: left out at {s.photo}: {s.failure}" for s in found.samples if s.failure]
    stopped = ["interrupted: there are fewer samples than rounds"] if found.interrupted else []
    return failed + stopped + [f"{name}: {PEERS[name].differences}" for name in peers]


def _agreement(found: Contest) -> dict[Key, Agreement]:
    """For each peer, how far its masks are ours, averaged over photos."""
    of: dict[Key, list[Agreement]] = {}
    for (key, photo), theirs in found.masks.items():
        ours = found.masks.get((key._replace(by=OURS), photo))
        if key.by != OURS and ours is not None:
            of.setdefault(key, []).append(agreement(ours, theirs))
    return {key: Agreement.mean(photos) for key, photos in of.items()}
