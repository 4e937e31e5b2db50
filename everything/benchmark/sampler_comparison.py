"""`compare`: accuracy and time of each sampler relative to the dense grid."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from everything.benchmark.output import report_tables, text_tables
from everything.benchmark.output.contact_sheet import write_sheet
from everything.benchmark.output.text_tables import Table
from everything.benchmark.plan import OnMessage
from everything.benchmark.report import SHOWN, Report, Row, Spread
from everything.benchmark.run import bench
from everything.benchmark.types import OWN_PROGRAM, Build, Key
from everything.errors import InputError, JobError
from everything.evaluation.mask_scores import MIN_AREA, Scores, score
from everything.io.datasets.ground_truth import GroundTruth, NameMatcher, read_ground_truth
from everything.io.images.sources import Source
from everything.io.results.reader import Results
from everything.jobs.label import label
from everything.recipes import resolve
from everything.recipes.build import build as build_pipeline

REFERENCE = "grid-32"


@dataclass(frozen=True)
class SamplerResult:
    """What a sampler found with a variant.

    prompts, masks: means per image. scores: None without ground truth.
    """

    key: Key
    prompts: float
    masks: float
    scores: Scores | None


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Args:
        photos: Number of images.
        found: One per variant and sampler.
        times: The benchmark of the variants that were timed, if any.
        sheets: Contact sheets of the masks, one per variant.
    """

    photos: int
    found: list[SamplerResult]
    times: Report | None
    sheets: list[Path] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """Return the tables that are not empty."""
        found = [_found_table(self.found, self.photos)] if self.found else []
        return found + ([_times_table(self.times)] if self.times else [])

    def markdown(self) -> str:
        """Return the tables and what they were measured on, as Markdown."""
        parts = [table.markdown() for table in self.tables()]
        lines = report_tables.conditions(self.times) if self.times else ()
        return "\n\n".join([*parts, "\n".join(f"- {line}" for line in lines)]).rstrip() + "\n"

    def print_to(self, console: Console) -> None:
        """Print the tables and what they were measured on."""
        lines = report_tables.conditions(self.times) if self.times else ()
        text_tables.print_tables(console, self.tables(), list(lines))

    def to_json(self) -> str:
        """Return all figures; `times` is what `bench` writes."""
        found = [_found_json(one, _reference_of(self.found, one)) for one in self.found]
        times = json.loads(self.times.to_json()) if self.times else None
        if times and self.times:
            times["of_reference"] = [
                _keyed(row.key) | ratios for row, ratios in _time_ratios(self.times)
            ]
        return json.dumps({"photos": self.photos, "found": found, "times": times}, indent=1)

    def save(self, folder: Path) -> None:
        """Write compare.json and compare.md into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compare.json").write_text(self.to_json(), encoding="utf-8")
        (folder / "compare.md").write_text(self.markdown(), encoding="utf-8")


def compare(
    photos: Sequence[Source],
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
        photos: The images.
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
    if not photos:
        raise InputError("no images to compare on: name some, or use --demo")
    # Read once, and before hours of labelling: it may be missing.
    marked = _marked(truth, split, photos) if truth else None
    with ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everything-")))
        job = partial(label, threads=thread_count, preview=False, console=console, build=build)
        found, sheets = [], []
        for variant in variants:
            folders = {}
            for sampler in samplers:
                on_message(f"labelling with {variant}, {sampler}")
                recipe = _recipe(variant, sampler, config, sets)
                folders[sampler] = folder = out / "labels" / recipe.variant / sampler
                summary = job(lambda: photos, folder, recipe)
                if summary.exit_code:
                    raise JobError(f"{folder}: some images failed: see errors.jsonl there")
                found.append(_found(Key(recipe.variant, sampler), folder, photos, marked))
            sheets.append(write_sheet(folders, photos, out / f"{recipe.variant}.jpg"))
        times = None
        if time_on:
            times = bench(
                spread(photos, timed),
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
        comparison = Comparison(len(photos), found, times, sheets)
        comparison.save(out)
    return comparison


def spread(photos: Sequence[Source], count: int | None) -> list[Source]:
    """Return `count` of the images, evenly spread; all of them if it is None or too large."""
    if count is None or count >= len(photos):
        return list(photos)
    return [photos[i * len(photos) // count] for i in range(count)]


def _recipe(variant: str, sampler: str, config: Path | str | None, sets: Sequence[str]) -> Any:
    name, _, path = variant.partition("=")
    return resolve.resolve(name, Path(path) if path else None, sampler, config, sets)


def _marked(truth: Path, split: str | None, photos: Sequence[Source]) -> list[GroundTruth]:
    """Return the ground truth of the images; raise InputError if there is none."""
    names = NameMatcher(photo.name for photo in photos)
    known = read_ground_truth(truth, split, MIN_AREA, contours=False)
    marked = [photo for photo in known if names.find(photo.name)]
    if not marked:
        raise InputError(
            f"{truth}: has no ground truth for any of these images: compare on images that it has"
        )
    return marked


def _found(
    key: Key, folder: Path, photos: Sequence[Source], marked: list[GroundTruth] | None
) -> SamplerResult:
    labels = Results(folder)
    results = [labels.read(photo.name) for photo in photos]
    prompts, masks = (
        fmean(result.timing.get(name, 0) for result in results) for name in ("prompts", "masks")
    )
    scores = score(folder, marked, boundaries=False) if marked is not None else None
    return SamplerResult(key, prompts, masks, scores)


def _found_table(found: list[SamplerResult], photos: int) -> Table:
    first = found[0].scores
    segments = f", {first.segments:,} segments" if first else ""
    header = ["case", "prompts", "masks", "AR@100", "AR@1000", "best IoU"]
    return Table(
        f"Accuracy: means over {photos} images{segments}; AR of shared masks (COCO's AR); "
        f"relative to the reference ({REFERENCE}, else the first sampler)",
        [*header, "relative: prompts", "AR@100", "AR@1000"],
        [_found_cells(one, _reference_of(found, one)) for one in found],
    )


def _found_cells(one: SamplerResult, reference: SamplerResult) -> list[str]:
    cells = [str(one.key), f"{one.prompts:.0f}", f"{one.masks:.0f}"]
    share = f"{one.prompts / reference.prompts:.2f}" if reference.prompts else "-"
    if one.scores is None or reference.scores is None:
        return [*cells, "-", "-", "-", share, "-", "-"]
    both = [f"{one.scores.shared[n]:.3f} ({one.scores.ar[n]:.3f})" for n in ("100", "1000")]
    ratios = _score_ratios(one, reference)
    parts = [f"{ratios[f'shared@{n}']:.2f} ({ratios[f'AR@{n}']:.2f})" for n in ("100", "1000")]
    return [*cells, *both, f"{one.scores.covering:.3f}", share, *parts]


def _found_json(one: SamplerResult, reference: SamplerResult) -> dict[str, Any]:
    return _keyed(one.key) | {
        "prompts": one.prompts,
        "masks": one.masks,
        "scores": one.scores.to_json() if one.scores else None,
        "of_reference": _score_ratios(one, reference),
    }


def _score_ratios(one: SamplerResult, reference: SamplerResult) -> dict[str, float]:
    if one.scores is None or reference.scores is None:
        return {}
    kinds = (
        ("shared", one.scores.shared, reference.scores.shared),
        ("AR", one.scores.ar, reference.scores.ar),
    )
    return {
        f"{kind}@{n}": _ratio(mine[n], theirs[n])
        for kind, mine, theirs in kinds
        for n in ("100", "1000")
    }


def _reference_of(found: list[SamplerResult], one: SamplerResult) -> SamplerResult:
    same = [other for other in found if other.key.variant == one.key.variant]
    return next((other for other in same if other.key.sampler == REFERENCE), same[0])


def _times_table(report: Report) -> Table:
    return Table(
        "Time: seconds per image by stage and in total, medians (10th, 90th percentile); relative "
        f"to the reference ({REFERENCE}, else the first sampler): medians over pairs in the same "
        "round",
        ["case", "prompts", "masks", *SHOWN, "total", "relative: prompts", "time"],
        [_time_cells(row, ratios) for row, ratios in _time_ratios(report)],
    )


def _time_cells(row: Row, ratios: Mapping[str, Any]) -> list[str]:
    if row.failure or row.latency is None:
        return [str(row.key), *["-"] * (4 + len(SHOWN)), row.failure.partition(":")[0]]
    counts = [f"{row.counts.get(name, 0):.0f}" for name in ("prompts", "masks")]
    stages = [f"{row.seconds[s]:.3f}" if s in row.seconds else "-" for s in SHOWN]
    prompts, time = ratios["prompts"], ratios["time"]
    return [
        *(str(row.key), *counts, *stages),
        f"{row.latency.median:.2f} ({row.latency.p10:.2f}, {row.latency.p90:.2f})",
        "-" if prompts is None else f"{prompts:.2f}",
        "-" if time is None else f"{time['median']:.2f} ({time['p10']:.2f}, {time['p90']:.2f})",
    ]


def _time_ratios(report: Report) -> list[tuple[Row, dict[str, Any]]]:
    """Every row with its prompts and its time relative to the reference's."""
    rows = report.rows()
    ratios = []
    for row in rows:
        same = [other for other in rows if other.key.variant == row.key.variant]
        reference = next((r for r in same if r.key.sampler == REFERENCE), same[0])
        ratios.append((row, _time_ratio(report, row, reference)))
    return ratios


def _time_ratio(report: Report, row: Row, reference: Row) -> dict[str, Any]:
    base = {(s.photo, s.round): s for s in report.samples if s.key == reference.key}
    mine = [s for s in report.samples if s.key == row.key and not s.failure]
    pairs = [(s, base[s.photo, s.round]) for s in mine if (s.photo, s.round) in base]
    asked = sum(other.counts.get("prompts", 0) for _, other in pairs)
    if not pairs or reference.failure:
        return {"prompts": None, "time": None}
    time = Spread.of(s.latency / other.latency for s, other in pairs)
    return {
        "prompts": sum(s.counts.get("prompts", 0) for s, _ in pairs) / asked if asked else None,
        "time": {"median": time.median, "p10": time.p10, "p90": time.p90},
    }


def _keyed(key: Key) -> dict[str, Any]:
    assert key.by == OWN_PROGRAM
    return {"variant": key.variant, "sampler": key.sampler}


def _ratio(mine: float, theirs: float) -> float:
    return mine / theirs if theirs else float("nan")
