"""Writes a report as Markdown, JSON, CSV and plots."""

from __future__ import annotations

from pathlib import Path

from everything.benchmark.output.report_tables import markdown
from everything.benchmark.report import Report


def save(report: Report, folder: Path) -> None:
    """Write bench.json, bench.csv, bench.md and the plots into a folder."""
    from everything.benchmark.output.plots import save_plots

    save_tables(report, folder)
    save_plots(report, folder)


def save_tables(report: Report, folder: Path) -> None:
    """Write bench.json, bench.csv and bench.md into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(report.to_json(), encoding="utf-8")
    (folder / "bench.csv").write_text(report.to_csv(), encoding="utf-8")
    (folder / "bench.md").write_text(markdown(report), encoding="utf-8")
