"""The result of `compare`: figures per sampler, relative to the dense grid, and their tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from everything.benchmark.output import report_tables, text_tables
from everything.benchmark.output.text_tables import Table
from everything.benchmark.report import SHOWN, Report, Row, Spread
from everything.benchmark.types import OWN_PROGRAM, Key
from everything.evaluation.mask_scores import Scores
from everything.io.storage.output_folder import OutputFolder

REFERENCE = "grid-32"


@dataclass(frozen=True)
class SamplerResult:
    """The result of a sampler with a variant.

    Args:
        key: The variant and the sampler.
        prompts: Mean number of prompts per image.
        masks: Mean number of masks per image.
        scores: None without ground truth.
    """

    key: Key
    prompts: float
    masks: float
    scores: Scores | None


NAMES = ("compare.json", "compare.md")


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Args:
        images: Number of images.
        found: One per variant and sampler.
        times: The benchmark of the variants that were timed, if any.
        sheets: Contact sheets of the masks, one per variant.
    """

    images: int
    found: list[SamplerResult]
    times: Report | None
    sheets: list[Path] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """Return the tables that have rows."""
        found = [_found_table(self.found, self.images)] if self.found else []
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
        return json.dumps({"photos": self.images, "found": found, "times": times}, indent=1)

    def save(self, folder: Path) -> None:
        """Write compare.json and compare.md into a folder.

        Raises:
            StoreError: It has files of these names that no comparison wrote.
        """
        output = OutputFolder(folder, "benchmark")
        output.claim(*NAMES)
        output.write("compare.json", self.to_json().encode())
        output.write("compare.md", self.markdown().encode())
        output.finish()


def _found_table(found: list[SamplerResult], images: int) -> Table:
    first = found[0].scores
    segments = f", {first.segments:,} segments" if first else ""
    header = ["case", "prompts", "masks", "AR@100", "AR@1000", "best IoU"]
    return Table(
        f"Accuracy: means over {images} images{segments}; AR of shared masks (COCO's AR); "
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
    reference_prompts = sum(other.counts.get("prompts", 0) for _, other in pairs)
    if not pairs or reference.failure:
        return {"prompts": None, "time": None}
    time = Spread.of(s.latency / other.latency for s, other in pairs)
    return {
        "prompts": sum(s.counts.get("prompts", 0) for s, _ in pairs) / reference_prompts
        if reference_prompts
        else None,
        "time": {"median": time.median, "p10": time.p10, "p90": time.p90},
    }


def _keyed(key: Key) -> dict[str, Any]:
    assert key.by == OWN_PROGRAM
    return {"variant": key.variant, "sampler": key.sampler}


def _ratio(mine: float, theirs: float) -> float:
    return mine / theirs if theirs else float("nan")
