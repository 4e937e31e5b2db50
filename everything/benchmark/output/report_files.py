"""Writes a report as Markdown, JSON, CSV and plots."""

from __future__ import annotations

from pathlib import Path

from everything.benchmark.output.report_tables import markdown
from everything.benchmark.report import Report
from everything.io.storage.output_folder import OutputFolder

NAMES = ("bench.json", "bench.csv", "bench.md", "stages.png", "prompts.png", "recall.png")


def claim(folder: Path) -> OutputFolder:
    """Create the folder of a benchmark; to be called before hours of measuring, too.

    Raises:
        StoreError: It has files of these names that no benchmark wrote, or cannot be written.
    """
    output = OutputFolder(folder, "benchmark")
    output.claim(*NAMES)
    return output


def save(report: Report, folder: Path) -> None:
    """Write bench.json, bench.csv, bench.md and the plots into a folder.

    Raises:
        StoreError: As `claim`.
    """
    from everything.benchmark.output.plots import plots_of

    save_tables(report, folder)
    output = claim(folder)
    for name, content in plots_of(report):
        output.write(name, content)
    output.finish()


def save_tables(report: Report, folder: Path) -> None:
    """Write bench.json, bench.csv and bench.md into a folder.

    Raises:
        StoreError: As `claim`.
    """
    output = claim(folder)
    output.write("bench.json", report.to_json().encode())
    output.write("bench.csv", report.to_csv().encode())
    output.write("bench.md", markdown(report).encode())
    output.finish()
