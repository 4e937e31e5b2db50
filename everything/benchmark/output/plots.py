"""Plots: latency by stage, latency over the number of box prompts, recall over latency."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from everything.benchmark.interleaved_runs import READ
from everything.benchmark.report import SHOWN, Report, Row
from everything.benchmark.types import BOXES, OWN_PROGRAM, Key

_WIDTH, _BAR = 9.0, 0.3  # inches
_BETWEEN = 1.6  # bars
_NAME = (80.0, 14.0)  # dots that a name takes, across and down


def plots_of(report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the PNG of each plot that the report has something for."""
    done = [row for row in report.rows() if not row.failure]
    if done:
        yield "stages.png", _png(_stage_bars(done))
    if len({row.key.sampler for row in done if row.key.sampler.startswith(BOXES)}) > 1:
        yield "prompts.png", _png(_against_prompts(done))
    if any(row.key in report.recall for row in done):
        yield "recall.png", _png(_against_recall(done, report.recall))


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    return buffer.getvalue()


def _figure(height: float) -> tuple[Any, Any]:
    # Not pyplot, which keeps figures in a global list and may open a window.
    from matplotlib.figure import Figure

    figure = Figure((_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _stage_bars(rows: list[Row]) -> Any:
    """One plot per variant, each with its own scale: variants differ by factors."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    of: dict[str, list[Row]] = {}
    for row in rows:
        of.setdefault(row.key.variant, []).append(row)
    heights = [len(some) + _BETWEEN for some in of.values()]
    figure = Figure((_WIDTH, 0.6 + _BAR * sum(heights)), layout="constrained")
    parts = figure.subplots(len(of), squeeze=False, height_ratios=heights)[:, 0]
    colours = dict(zip(SHOWN, (f"C{i}" for i in range(len(SHOWN))), strict=True))
    for axes, (variant, some) in zip(parts, of.items(), strict=True):
        _bars(axes, some, colours)
        axes.set_title(variant, loc="left", fontsize=10)
    axes.set_xlabel("seconds per image, median of each stage")
    drawn = [stage for stage in SHOWN if stage != READ]
    handles = [Rectangle((0, 0), 1, 1, color=colours[stage]) for stage in drawn]
    figure.legend(
        handles, drawn, loc="outside lower center", ncols=len(drawn), frameon=False, fontsize=8
    )
    return figure


def _bars(axes: Any, rows: list[Row], colours: dict[str, str]) -> None:
    labels = [_short(row.key) for row in rows]
    left = [0.0] * len(rows)
    for stage in SHOWN:
        if stage == READ:
            continue  # not part of the latency
        lengths = [row.seconds.get(stage, 0.0) for row in rows]
        axes.barh(labels, lengths, left=left, color=colours[stage], height=0.7)
        left = [a + b for a, b in zip(left, lengths, strict=True)]
    for at, (row, end) in enumerate(zip(rows, left, strict=True)):
        # The median of the whole is not the sum of the medians: it is what counts.
        total = f" {row.latency.median:.3g} s" if row.latency else ""
        axes.text(end, at, total, va="center", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1, y=0.02)
    axes.invert_yaxis()


def _short(key: Key) -> str:
    return key.sampler if key.by == OWN_PROGRAM else f"{key.sampler}, {key.by}"


def _against_prompts(rows: list[Row]) -> Any:
    """The survey's Fig. 16."""
    figure, axes = _figure(4.5)
    for variant in dict.fromkeys(row.key.variant for row in rows):
        points = sorted(
            (int(row.key.sampler.removeprefix(BOXES)), 1000 * row.latency.median)
            for row in rows
            if row.key.variant == variant and row.key.by == OWN_PROGRAM and row.latency
            if row.key.sampler.startswith(BOXES)
        )
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=variant)
    axes.set_xlabel("box prompts")
    axes.set_ylabel("ms per image, encoder included")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    return figure


def _against_recall(rows: list[Row], recall: dict[Key, float]) -> Any:
    figure, axes = _figure(4.5)
    named: list[tuple[str, tuple[float, float]]] = []
    for variant in dict.fromkeys(row.key.variant for row in rows):
        mine = [r for r in rows if r.key.variant == variant and r.key in recall and r.latency]
        points = [(1000 * r.latency.median, recall[r.key]) for r in mine if r.latency]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", linestyle="", label=variant)
        named += [(_short(row.key), point) for row, point in zip(mine, points, strict=True)]
    _spread_out(axes, [r.latency.median for r in rows if r.key in recall and r.latency])
    axes.set_xlabel("ms per image, median")
    axes.set_ylabel("AR@1000")
    axes.margins(0.15)  # for the names beside the points
    _name(axes, named)
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    return figure


def _name(axes: Any, named: list[tuple[str, tuple[float, float]]]) -> None:
    """Write names above points, or below where they would cover another name."""
    above: list[tuple[float, float]] = []
    for text, point in sorted(named, key=lambda one: -one[1][1]):
        x, y = axes.transData.transform(point)
        near = any(abs(x - a) < _NAME[0] and abs(y - b) < _NAME[1] for a, b in above)
        if not near:
            above.append((x, y))
        axes.annotate(text, point, (5, -11 if near else 4), textcoords="offset points", fontsize=8)


def _spread_out(axes: Any, latencies: list[float]) -> None:
    """Use a logarithmic axis if latencies differ by factors."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if max(latencies) > 5 * min(latencies):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
