"""`compare`: accuracy and time of each sampler relative to the dense grid."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.console import Console

from everything.benchmark.comparison_report import NAMES, Comparison, SamplerResult
from everything.benchmark.output.contact_sheet import write_sheet
from everything.benchmark.plan import OnMessage
from everything.benchmark.run import bench
from everything.benchmark.types import Build, Key
from everything.config import Recipe
from everything.errors import InputError, JobError
from everything.evaluation.mask_scores import MIN_AREA, score
from everything.io.datasets.ground_truth import GroundTruth, NameMatcher, read_ground_truth
from everything.io.images.sources import Source
from everything.io.results.reader import Results
from everything.io.storage.output_folder import OutputFolder
from everything.jobs.label import label
from everything.recipes import resolve
from everything.recipes.build import build as build_pipeline


def compare(
    images: Sequence[Source],
    variants: Sequence[str],
    samplers: Sequence[str],
    *,
    truth: Path | None = None,
    split: str | None = None,
    time_on: Sequence[str] = (),
    timed: int = 4,
    repeats: int = 3,
    warmup: int = 1,
    thread_count: int = 1,
    random_seed: int | None = None,
    config: Path | str | None = None,
    sets: Sequence[str] = (),
    out: Path | None = None,
    on_message: OnMessage = lambda line: None,
    console: Console | None = None,
    build: Build = build_pipeline,
) -> Comparison:
    """Label images with every variant and sampler, score, time and draw the results.

    Args:
        images: The images.
        variants: Names of variants, or NAME=CHECKPOINT.
        samplers: Names of samplers.
        truth: Ground truth of the images, as `evaluate` takes it; None: no scores.
        split: Part of the ground truth, such as "val".
        time_on: Variants to be timed, interleaved; see `bench`.
        timed: Number of images that are timed.
        repeats: Number of timed rounds.
        warmup: Number of untimed runs on the first image.
        thread_count: Threads of torch.
        random_seed: See `bench`.
        config: Settings of all recipes, as `recipes.resolve` takes them; so is sets.
        sets: See config.
        out: Folder that keeps annotations, tables and contact sheets; rerun to resume.
        on_message: Called with a line of progress.
        console: Where the progress of labelling is shown.
        build: Builds a pipeline.

    Returns:
        The results.

    Raises:
        EverythingError: If an image, a variant or a setting is wrong.
    """
    if not images:
        raise InputError("no images to compare on: name some, or use --demo")
    # Read once, and before hours of labelling: it may be missing.
    truths = _ground_truth(truth, split, images) if truth else None
    with ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everything-")))
        # Before hours of labelling.
        OutputFolder(out, "benchmark").claim(
            *NAMES, *(f"{v.partition('=')[0]}.jpg" for v in variants)
        )
        job = partial(label, threads=thread_count, preview=False, console=console, build=build)
        results, sheets = [], []
        for variant in variants:
            folders = {}
            for sampler in samplers:
                on_message(f"labelling with {variant}, {sampler}")
                recipe = _recipe(variant, sampler, config, sets)
                folders[sampler] = folder = out / "labels" / recipe.variant / sampler
                summary = job(lambda: images, folder, recipe)
                if summary.exit_code:
                    raise JobError(f"{folder}: some images failed: see errors.jsonl there")
                results.append(_result(Key(recipe.variant, sampler), folder, images, truths))
            sheets.append(write_sheet(folders, images, out / f"{recipe.variant}.jpg"))
        times = None
        if time_on:
            times = bench(
                spread(images, timed),
                time_on,
                samplers,
                repeats=repeats,
                warmup=warmup,
                thread_count=thread_count,
                random_seed=random_seed,
                memory=False,
                config=config,
                sets=sets,
                on_message=on_message,
                build=build,
            )
        comparison = Comparison(len(images), results, times, sheets)
        comparison.save(out)
    return comparison


def spread(images: Sequence[Source], count: int | None) -> list[Source]:
    """Return `count` of the images, evenly spread; all of them if it is None or too large."""
    if count is None or count >= len(images):
        return list(images)
    return [images[i * len(images) // count] for i in range(count)]


def _recipe(variant: str, sampler: str, config: Path | str | None, sets: Sequence[str]) -> Recipe:
    name, _, path = variant.partition("=")
    return resolve.resolve(name, Path(path) if path else None, sampler, config, sets)


def _ground_truth(truth: Path, split: str | None, images: Sequence[Source]) -> list[GroundTruth]:
    """Return the ground truth of the images; raise InputError if there is none."""
    names = NameMatcher(image.name for image in images)
    known = read_ground_truth(truth, split, MIN_AREA, contours=False)
    truths = [image for image in known if names.find(image.name)]
    if not truths:
        raise InputError(
            f"{truth}: has no ground truth for any of these images: compare on images that it has"
        )
    return truths


def _result(
    key: Key, folder: Path, images: Sequence[Source], truths: list[GroundTruth] | None
) -> SamplerResult:
    labels = Results(folder)
    results = [labels.read(image.name) for image in images]
    prompts, masks = (
        fmean(result.timing.get(name, 0) for result in results) for name in ("prompts", "masks")
    )
    scores = score(folder, truths, boundaries=False) if truths is not None else None
    return SamplerResult(key, prompts, masks, scores)
