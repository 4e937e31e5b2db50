"""The summary of a job: counts, seconds per stage, speed."""

from __future__ import annotations

import math
import statistics
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from everything.core.file_names import printable
from everything.core.stage_timer import STAGES
from everything.io.results.manifest_rows import Row
from everything.io.storage.locations import Location

_LISTED = 20
_STAGES = (*STAGES, "total")


def _columns() -> dict[str, array[float]]:
    return {stage: array("f") for stage in _STAGES}


@dataclass
class Summary:
    """Counts the images of a job. seconds: from the start of the first to the end of the last.

    images: all that were listed, without those left out because an image has their name
    (left_out). skipped: done by an earlier run. noted: read with a guess, see
    the manifest. failures: the first error messages.
    """

    out: Location
    images: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    masks: int = 0
    noted: int = 0
    left_out: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    preview: Path | None = None
    failures: list[str] = field(default_factory=list)
    _stages: dict[str, array[float]] = field(default_factory=_columns)
    _began: float = math.inf

    def count(self, row: Row) -> None:
        """Count the row of an image."""
        self._began = min(self._began, row.started)
        self.seconds = max(self.seconds, row.finished - self._began)
        if row.status == "failed":
            self.failed += 1
            if len(self.failures) < _LISTED:
                self.failures.append(row.error or row.name)
            return
        self.done += 1
        self.masks += row.counts.get("masks", 0)
        self.noted += bool(row.notes)
        for stage, column in self._stages.items():
            column.append(row.seconds.get(stage, 0.0))

    @property
    def left(self) -> int:
        """Number of images still to do."""
        return max(0, self.images - self.done - self.failed - self.skipped)

    @property
    def images_per_second(self) -> float:
        """Images per second of wall time, without skipped images and the loading of the model."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the end, or None before the first image."""
        rate = self.images_per_second
        return self.left / rate if rate > 0 else None

    @property
    def exit_code(self) -> int:
        """0: all done. 3: some failed. 130: interrupted."""
        if self.interrupted:
            return 130
        return 3 if self.failed else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; stage_seconds: median and total over the images of this run."""
        return {
            "out": printable(self.out),
            "images": self.images,
            "done": self.done,
            "failed": self.failed,
            "skipped": self.skipped,
            "left_out": self.left_out,
            "masks": self.masks,
            "images_per_second": round(self.images_per_second, 3),
            "seconds": round(self.seconds, 3),
            "stage_seconds": {
                stage: {"median": round(median, 4), "total": round(total, 4)}
                for stage, median, total in self._stage_rows()
            },
            "failures": self.failures,
            "interrupted": self.interrupted,
            "preview": None if self.preview is None else printable(self.preview),
        }

    def print_to(self, console: Console) -> None:
        """Print the tables, the images that failed, and where the results are."""
        console.print(Group(*self._parts()))

    def _parts(self) -> list[RenderableType]:
        counts = Table(box=None, pad_edge=False)
        cells = {
            "images": f"{self.images:,}",
            "done": f"{self.done:,}",
            "failed": f"{self.failed:,}",
            "skipped": f"{self.skipped:,}",
            "masks": f"{self.masks:,}",
            "images/s": f"{self.images_per_second:.2f}",
        }
        for title in cells:
            counts.add_column(title, justify="right")
        counts.add_row(*cells.values())
        parts: list[RenderableType] = [counts]
        if self.done:
            parts += ["", self._stage_table()]
        if self.noted:
            what = "images were read with a guess (see the column notes of the manifest)"
            parts.append(f"\n{self.noted:,} {what}")
        if self.left_out:
            what = "images have the name of another one and were left out"
            parts.append(f"\n{self.left_out:,} {what}: label them into another --out")
        if self.failed:
            parts.append(
                f"\n[red]failed[/red] (all of them: {printable(self.out / 'errors.jsonl')})"
            )
            parts += [Text(failure) for failure in self.failures]
        if self.interrupted:
            parts.append("\ninterrupted: rerun the same command to resume")
        where = f"\nannotations  {printable(self.out / 'annotations')}"
        parts.append(Text(where, overflow="fold"))
        if self.preview is not None:
            parts.append(Text(f"preview      {printable(self.preview)}", overflow="fold"))
        return parts

    def _stage_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("seconds per image")
        rows = list(self._stage_rows())
        for stage, _, _ in rows:
            table.add_column(stage, justify="right")
        table.add_row("median", *(f"{median:.3f}" for _, median, _ in rows))
        table.add_row("all images", *(f"{total:.1f}" for _, _, total in rows))
        return table

    def _stage_rows(self) -> list[tuple[str, float, float]]:
        return [
            (stage, statistics.median(column) if column else 0.0, sum(column))
            for stage, column in self._stages.items()
        ]
