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

from everything.benchmark.cases import Spec
from everything.benchmark.environment import machine, threads
from everything.benchmark.flops import Work, products_per_second
from everything.benchmark.interleaved_runs import Measurements, Runner, Sample, run_interleaved
from everything.benchmark.mask_agreement import Agreement, agreement
from everything.benchmark.memory import Peak
from everything.benchmark.plan import OnMessage, Plan, Settings
from everything.benchmark.recall import ground_truth_of, recall_of
from everything.benchmark.reference_tools import PEERS
from everything.benchmark.report import Report
from everything.benchmark.resize import resized
from everything.benchmark.subprocess_runner import SubprocessRunner
from everything.benchmark.types import MALLOC_SUFFIX, OWN_MODES, OWN_PROGRAM, Build, Key
from everything.core.device import device_of
from everything.errors import ConfigError, InputError, reason_of
from everything.io.images.decode import read_image
from everything.io.images.sources import Source
from everything.recipes.build import build as build_pipeline

OnCheckpoint = Callable[[Report], None]
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
    on_message: OnMessage = lambda line: None,
    on_checkpoint: OnCheckpoint = lambda report: None,
    build: Build = build_pipeline,
) -> Report:
    """Time every variant with every sampler on the images, in interleaved runs.

    Combinations that another program does not support are left out, with a note in the report.

    Args:
        photos: The images.
        variants: Names of variants, or NAME=CHECKPOINT.
        samplers: Names of samplers, or boxes-N for N random box prompts (the survey's SegAny test).
        against: Names of PEERS, which run on grids only, or of OWN_MODES, which run on everything;
            each of them, and "everything", also as NAME+malloc.
        repeats: Number of rounds over all images.
        warmup: Number of untimed runs on the first image.
        megapixels: Resize the images to this size first.
        thread_count: Threads of torch; None: as they are.
        random_seed: Use random weights for variants whose weights are not bundled.
        apart: Run each case in a separate process; None: only if other programs are compared.
        memory: Measure peak memory: over all images if the cases are apart, else on the largest
            image in a separate process for each.
        flops: Count this program's floating-point operations on the first image, and measure what
            the machine can do at best.
        config: Settings for all cases, as `recipes.resolve` takes them; so are sets and flags.
        sets: See config.
        flags: See config.
        truth: Ground truth of the images, as `evaluate` takes it, for the recall.
        split: Part of the ground truth, such as "val".
        on_message: Called with a line of progress.
        on_checkpoint: Called with the report so far every half minute and before an error is
            raised.
        build: Builds a pipeline, in this process and in others.

    Returns:
        The samples and what was measured besides.

    Raises:
        ConfigError: If a name or a setting is wrong.
        InputError: If there are no images or no ground truth for them.
        WeightsError: If weights are missing or damaged.
        ImageError: If an image cannot be read.
    """
    _check(photos, variants, samplers, against, repeats, warmup)
    peers = list(dict.fromkeys(p for p in map(_program, against) if p in PEERS))
    apart = _apart(apart, against, bool(peers))
    if truth is not None and megapixels is not None:
        raise ConfigError(
            "--megapixels: the ground truth has the images' own size: drop --megapixels or --truth"
        )
    names = [photo.name for photo in photos]
    marked = {} if truth is None else ground_truth_of(truth, split, names)
    with ExitStack() as stack:
        stack.enter_context(threads(thread_count))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everything-bench-")))
        if megapixels is not None:
            photos = resized(photos, megapixels, folder)
        settings = Settings(config, tuple(sets), dict(flags or {}), build)
        plan = Plan(settings, photos, folder, random_seed, on_message)
        for name in variants:
            plan.add(name, samplers, against)
        runners = plan.load(stack, apart, thread_count)
        alone = [spec for spec in plan.specs if spec.key in {runner.key for runner in runners}]
        peaks = _peaks(alone, photos, thread_count, on_message) if memory and not apart else {}
        about = machine(tuple(PEERS[name].package for name in peers))
        device = device_of(plan.specs[0].recipe.compute)
        rates = _rates(flops, device)
        found, work = Measurements(), dict[Key, Work]()
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
            """Everything but agreement and recall, which take long to compute."""
            load = round(os.getloadavg()[0], 2)
            return Report(
                machine=about | {"flops_per_second": max(rates, default=None), "load_after": load},
                settings=asked | {"interrupted": found.interrupted},
                samples=found.samples,
                memory=_peaks_of(runners) if memory and apart else peaks,
                work=work,
                notes=plan.notes + _notes(found, peers) + list(notes),
            )

        with _checkpoints(on_checkpoint, so_far) as on_sample:
            step = _told(on_message, len(runners) * (warmup + repeats * len(photos)), on_sample)
            # The long part: an interrupt ends it, and the samples taken so far are reported.
            run_interleaved(runners, photos, repeats, warmup, step, found)
            rates += _rates(flops, device)
            work |= _work(found, runners, photos[0], on_message) if flops else {}
        recall = recall_of(marked, found.masks) if marked else {}
        return replace(so_far(), agreement=_agreement(found), recall=recall)


@contextmanager
def _checkpoints(
    on_checkpoint: OnCheckpoint, so_far: Callable[..., Report]
) -> Iterator[Callable[[], None]]:
    """Give a function that passes on the report, at most every half minute; an error does, too."""
    last = monotonic()

    def on_sample() -> None:
        nonlocal last
        if monotonic() - last >= _EVERY:  # saving takes time, and the machine is being measured
            on_checkpoint(so_far())
            last = monotonic()

    try:
        yield on_sample
    except BaseException as error:
        on_checkpoint(so_far(f"ended early: {type(error).__name__}: {reason_of(error)}"))
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
        raise InputError("no images to measure on: name some, or use --demo")
    if not variants or not samplers:
        raise ConfigError("nothing to measure: name at least one variant and one sampler")
    if repeats < 1 or warmup < 0:
        raise ConfigError(f"{repeats} repeats, {warmup} warm-up runs: give at least 1 and 0")
    for name in against:
        if _program(name) not in (*PEERS, *OWN_MODES) and name != OWN_PROGRAM + MALLOC_SUFFIX:
            known = ", ".join((*PEERS, *OWN_MODES))
            raise ConfigError(
                f"--against {name}: unknown: choose from {known}, {OWN_PROGRAM + MALLOC_SUFFIX}, "
                f"each also with {MALLOC_SUFFIX}"
            )


def _program(by: str) -> str:
    return by.removesuffix(MALLOC_SUFFIX)


def _apart(wanted: bool | None, against: Sequence[str], has_peers: bool) -> bool:
    tuned = [name for name in against if name.endswith(MALLOC_SUFFIX)]
    if tuned and wanted is False:
        raise ConfigError(f"{tuned[0]}: needs a separate process: drop --no-apart")
    return bool(tuned) or has_peers if wanted is None else wanted


def _told(
    on_message: OnMessage, turns: int, on_sample: Callable[[], None]
) -> Callable[[Sample], None]:
    turn = count(1)

    def step(sample: Sample) -> None:
        which = f"round {sample.round + 1}" if sample.round >= 0 else "warm-up"
        took = sample.failure or f"{sample.latency:.2f} s, {sample.counts.get('masks', 0)} masks"
        on_message(f"{next(turn)}/{turns}: {which}, {sample.photo}: {sample.key}: {took}")
        on_sample()

    return step


def _order(variants: Sequence[str], samplers: Sequence[str], against: Sequence[str]) -> list[str]:
    names = [name.partition("=")[0] for name in variants]
    return list(dict.fromkeys([*names, *samplers, OWN_PROGRAM, *against]))


def _photos(photos: Sequence[Source]) -> list[dict[str, Any]]:
    sizes = [read_image(photo.path) for photo in photos]
    return [
        {"name": photo.name, "width": read.width, "height": read.height}
        for photo, read in zip(photos, sizes, strict=True)
    ]


def _rates(flops: bool, device: torch.device) -> list[float]:
    return [products_per_second(device)] if flops else []


def _peaks(
    specs: Sequence[Spec], photos: Sequence[Source], thread_count: int | None, on_message: OnMessage
) -> dict[Key, Peak]:
    largest = max(photos, key=lambda photo: read_image(photo.path).pixels.size)
    peaks = {}
    for spec in specs:
        on_message(f"memory of {spec.key}")
        with SubprocessRunner(spec, thread_count) as one:
            one.measure(largest, 0)
            peaks[spec.key] = one.peak
    return peaks


def _peaks_of(runners: Sequence[Runner]) -> dict[Key, Peak]:
    return {runner.key: runner.peak for runner in runners if isinstance(runner, SubprocessRunner)}


def _work(
    found: Measurements, runners: Sequence[Runner], photo: Source, on_message: OnMessage
) -> dict[Key, Work]:
    """Operations of this program alone: another program has those of the mode `plain`."""
    done = {s.key for s in found.samples} - {s.key for s in found.samples if s.failure}
    work = {}
    for runner in runners:
        if runner.key not in done or not runner.key.is_own or found.interrupted:
            continue
        on_message(f"operations of {runner.key}")
        counted = runner.work(photo)
        if counted is not None:
            work[runner.key] = counted
    return work


def _notes(found: Measurements, peers: Sequence[str]) -> list[str]:
    failed = [f"{s.key}: left out at {s.photo}: {s.failure}" for s in found.samples if s.failure]
    stopped = ["interrupted: some rounds are missing"] if found.interrupted else []
    return failed + stopped + [f"{name}: {PEERS[name].differences}" for name in peers]


def _agreement(found: Measurements) -> dict[Key, Agreement]:
    """For each other program and mode, how far its masks agree, averaged over images."""
    of: dict[Key, list[Agreement]] = {}
    for (key, photo), theirs in found.masks.items():
        ours = found.masks.get((key._replace(by=OWN_PROGRAM), photo))
        if key.by != OWN_PROGRAM and ours is not None:
            of.setdefault(key, []).append(agreement(ours, theirs))
    return {key: Agreement.mean(photos) for key, photos in of.items()}
