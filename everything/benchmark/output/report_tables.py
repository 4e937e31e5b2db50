"""The report as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from rich.console import Console

from everything.benchmark.mask_agreement import Agreement
from everything.benchmark.output.text_tables import Table, print_tables
from everything.benchmark.report import FUNNEL, SHOWN, Report, Row, Spread
from everything.benchmark.types import BOXES, OWN_PROGRAM, Key

_MIB = 2**20


def markdown(report: Report) -> str:
    """Return all tables, what they were measured on, and the notes."""
    parts = [table.markdown() for table in all_tables(report)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in conditions(report))]) + "\n"


def print_to(console: Console, report: Report) -> None:
    """Print all tables, what they were measured on, and the notes."""
    print_tables(console, list(all_tables(report)), list(conditions(report)))


def all_tables(report: Report) -> Iterator[Table]:
    """Yield the tables that the report has something for."""
    rows = report.rows()
    yield _latencies(report, rows)
    if any(row.key.sampler.startswith(BOXES) for row in rows):
        yield _boxes(report, rows)
    if report.recall:
        yield _recall(report, rows)
    yield _stages(rows)
    yield _survival(rows)
    if report.memory:
        yield _memory(report)
    if report.work:
        yield _work(report, rows)
    if report.ratios():
        yield _ratios(report)


def conditions(report: Report) -> Iterator[str]:
    """Yield what the figures depend on, a line each."""
    about, settings = report.machine, report.settings
    device = about["gpu"] or "CPU"
    yield (
        f"{about['cpu']}, {about['cores']} usable cores, {about['threads']} threads, "
        f"{about['memory_bytes'] / 2**30:.0f} GiB, on {device}, {about['system']}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    yield f"Python {about['python']}, {versions}"
    if kernels := about.get("kernels"):
        yield f"decoder kernels: {kernels}"
    else:
        yield "decoder kernels not built: torch is used instead, which is slower"
    if about["environment"]:
        yield ", ".join(f"{name}={value}" for name, value in about["environment"].items())
    yield f"machine load: {about['load']} at the start, {about['load_after']} at the end"
    sizes = [f"{p['name']} {p['width']}x{p['height']}" for p in settings["photos"]]
    yield (
        f"{len(sizes)} images, {settings['repeats']} interleaved rounds after {settings['warmup']} "
        f"warm-up runs: {', '.join(sizes)}"
    )
    yield from report.notes


def _latencies(report: Report, rows: list[Row]) -> Table:
    """The survey's Table 4: variants down, samplers across."""
    samplers = list(dict.fromkeys(row.key.sampler for row in rows))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        cells = lines.setdefault((row.key.variant, row.key.by), {})
        cells[row.key.sampler] = _result(row, lambda r: _spread(r.latency, 1000, ".0f"))
    return Table(
        "Latency, ms per image from pixels to masks: median (10th, 90th percentile; the 90th is "
        "MLPerf's single-stream figure)",
        ["model", *samplers],
        [
            [_model(variant, by), *(cells.get(sampler, "-") for sampler in samplers)]
            for (variant, by), cells in lines.items()
        ],
    )


def _boxes(report: Report, rows: list[Row]) -> Table:
    """The survey's Table 3."""
    chosen = [row for row in rows if row.key.sampler.startswith(BOXES)]
    return Table(
        "Box prompts: latency, memory, throughput",
        ["model", "boxes", "memory, MiB", "encoder, ms", "latency, ms", "images/s"],
        [
            [
                _model(row.key.variant, row.key.by),
                row.key.sampler.removeprefix(BOXES),
                _peak(report, row.key),
                _result(row, lambda r: f"{1000 * r.seconds.get('encode', 0):.0f}"),
                _result(row, lambda r: _spread(r.latency, 1000, ".0f")),
                _result(row, lambda r: f"{r.throughput:.2f}"),
            ]
            for row in chosen
        ],
    )


def _recall(report: Report, rows: list[Row]) -> Table:
    found = [
        [str(row.key), _spread(row.latency, 1000, ".0f"), f"{report.recall[row.key]:.3f}"]
        for row in rows
        if row.key in report.recall
    ]
    return Table("Latency, ms, and recall", ["", "median (p10, p90)", "AR@1000"], found)


def _stages(rows: list[Row]) -> Table:
    return Table(
        "Stages, ms: medians; total from pixels to masks; images/s one at a time (MLPerf's "
        "offline scenario)",
        ["case", *SHOWN, "total", "images/s"],
        [[str(row.key), *_stage_cells(row)] for row in rows],
    )


def _stage_cells(row: Row) -> list[str]:
    if row.failure or row.latency is None:
        return [_short(row.failure)] + ["-"] * (len(SHOWN) + 1)
    stages = [f"{1000 * row.seconds[s]:.0f}" if s in row.seconds else "-" for s in SHOWN]
    return [*stages, f"{1000 * row.latency.median:.0f}", f"{row.throughput:.2f}"]


def _survival(rows: list[Row]) -> Table:
    return Table(
        "From prompts to masks: means per image (share of candidates); decoder ms per prompt",
        [
            "case",
            "prompts",
            "candidates",
            "pass IoU",
            "stable",
            "after NMS",
            "decode per prompt",
        ],
        [[str(row.key), *_survival_cells(row)] for row in rows],
    )


def _survival_cells(row: Row) -> list[str]:
    counts, candidates = row.counts, row.counts.get("candidates", 0)
    cells = [f"{counts[name]:.0f}" if name in counts else "-" for name in FUNNEL]
    for i in (2, 3):
        if cells[i] != "-" and candidates:
            cells[i] += f" ({counts[FUNNEL[i]] / candidates:.0%})"
    prompts = counts.get("prompts")
    each = f"{1000 * row.seconds.get('decode', 0) / prompts:.1f}" if prompts else "-"
    return [*cells, each]


def _memory(report: Report) -> Table:
    keys = [key for key in report.cases() if key in report.memory]
    where = "over all images" if report.settings.get("apart") else "on the largest image"
    return Table(
        f"Peak memory {where}, MiB, measured in a separate process each",
        ["case", "resident, model loaded", "resident, peak", "GPU, peak"],
        [[str(key), *_peak_cells(report, key)] for key in keys],
    )


def _peak_cells(report: Report, key: Key) -> list[str]:
    found = report.memory[key]
    if found.failure:
        return ["-", _short(found.failure), "-"]
    gpu = f"{found.gpu / _MIB:.0f}" if found.gpu else "-"
    return [f"{found.ready / _MIB:.0f}", f"{found.peak / _MIB:.0f}", gpu]


def _peak(report: Report, key: Key) -> str:
    if key not in report.memory:
        return "-"
    cells = _peak_cells(report, key)
    return cells[2] if cells[2] != "-" else cells[1]


def _work(report: Report, rows: list[Row]) -> Table:
    """Operations, and the time if everything ran like a large matrix product."""
    rate = report.machine["flops_per_second"]
    return Table(
        "Operations on the first image; lower bounds: time of as many operations in a matrix "
        f"product, {rate / 1e9:.0f} GFLOP/s",
        [
            *("case", "GFLOP", "bound, ms", "decoder, MFLOP per prompt"),
            *("bound, ms per prompt", "measured", "measured / bound"),
        ],
        [
            [str(row.key), *_work_cells(report, row.key, rate)]
            for row in rows
            if row.key in report.work
        ],
    )


def _work_cells(report: Report, key: Key, rate: float) -> list[str]:
    work, first = report.work[key], report.settings["photos"][0]["name"]
    samples = [s for s in report.samples if (s.key, s.photo, s.failure) == (key, first, "")]
    prompts = samples[0].counts.get("prompts", 0) if samples else 0
    decode = work.by_stage.get("decode", 0)
    cells = [f"{work.total / 1e9:.1f}", f"{1000 * work.total / rate:.0f}"]
    if not prompts or not decode:
        return cells + ["-"] * 4
    measured = median(s.seconds["decode"] for s in samples) / prompts
    each = decode / prompts
    floor = each / rate
    return [
        *(*cells, f"{each / 1e6:.0f}", f"{1000 * floor:.2f}"),
        *(f"{1000 * measured:.2f}", f"{measured / floor:.2f}"),
    ]


def _ratios(report: Report) -> Table:
    header = ["program", "whole image", "after the encoder", "decoder, per prompt"]
    return Table(
        "Time and memory of other programs and modes as multiples of this program's default: "
        "median (10th, 90th percentile) over pairs of runs in the same round",
        [*header, "peak memory", "above the loaded model", "same masks (mean IoU)"],
        [
            [
                str(ratio.key),
                _spread(ratio.image, 1, ".2f"),
                _spread(ratio.after_encoder, 1, ".2f"),
                _spread(ratio.per_prompt, 1, ".2f"),
                *("-" if x is None else f"{x:.2f}" for x in (ratio.memory, ratio.working)),
                _agreement(ratio.agreement),
            ]
            for ratio in report.ratios()
        ],
    )


def _agreement(found: Agreement | None) -> str:
    return "-" if found is None else f"{found.same:.1%} ({found.mean_iou:.4f})"


def _model(variant: str, by: str) -> str:
    return variant if by == OWN_PROGRAM else f"{variant}, {by}"


def _result(row: Row, of: Callable[[Row], str]) -> str:
    return _short(row.failure) if row.failure else of(row)


def _short(failure: str) -> str:
    """Return the kind of a failure; the notes have the whole text."""
    return failure.partition(":")[0]


def _spread(spread: Spread | None, scale: float, form: str) -> str:
    if spread is None:
        return "-"
    median, p10, p90 = (f"{scale * x:{form}}" for x in (spread.median, spread.p10, spread.p90))
    # A single sample has no spread.
    return median if spread.p10 == spread.p90 else f"{median} ({p10}, {p90})"
