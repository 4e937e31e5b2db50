"""What a job would do, without writing anything: `label --dry-run`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from everything.config import Recipe
from everything.core.file_names import as_text, is_inside, printable
from everything.core.threads import torch_threads, usable_cores
from everything.errors import InputError
from everything.io.images.decode import Limits
from everything.io.images.sources import Source
from everything.io.results.manifest import Manifest
from everything.io.results.writer import Store
from everything.io.storage.locations import Location
from everything.jobs.annotator import Annotator, Task
from everything.jobs.auto_workers import auto_workers
from everything.jobs.image_list import ImageList
from everything.jobs.progress import duration
from everything.jobs.resume import DoneImages, bytes_of
from everything.pipeline.pipeline import Pipeline
from everything.recipes.build import build as build_pipeline

_MEASURED = 3  # images


@dataclass(frozen=True)
class Plan:
    """What a job would do.

    Attributes:
        out: The results folder.
        images: Number of images, without those left out because another one has their name.
        left_out: The number of those.
        done: Number of images that would be skipped.
        failed_before: Number of images that failed before and would be tried again.
        bytes: Size of the images to label.
        unknown_sizes: Number of these whose size is not known before they are read.
        measured: Number of images that were labelled in memory, of those `failures` that failed.
        seconds_per_image: Median of the measured images; None if there are none.
        masks_per_image: Median of the measured images; None if there are none.
        workers: Number of worker processes that can work at the same time.
        failures: Why measured images failed.
    """

    out: str
    images: int
    left_out: int
    done: int
    failed_before: int
    bytes: int
    unknown_sizes: int
    measured: int
    seconds_per_image: float | None
    masks_per_image: float | None
    workers: int
    failures: list[str]

    @property
    def to_label(self) -> int:
        """Number of images that would be labelled."""
        return self.images - self.done

    @property
    def seconds(self) -> float | None:
        """Estimated duration of the job without loading the model; None if nothing was measured."""
        if self.seconds_per_image is None:
            return 0.0 if self.to_label == 0 else None
        return self.seconds_per_image * self.to_label / min(self.workers, max(1, self.to_label))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"to_label": self.to_label, "seconds": self.seconds}

    def print_to(self, console: Console) -> None:
        """Print it as a table."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        table.add_row("images", f"{self.images:,}", "")
        table.add_row("already labelled", f"{self.done:,}", "")
        table.add_row("to label", f"{self.to_label:,}", self._notes())
        table.add_row("their size", f"{self.bytes / 1e6:,.1f} MB", self._without_size())
        if self.seconds_per_image is not None:
            how = f"median of {self.measured - len(self.failures)} that were labelled in memory"
            table.add_row("seconds per image", f"{self.seconds_per_image:.2f}", how)
            table.add_row("masks per image", f"{self.masks_per_image:,.0f}", "")
        if self.seconds is not None:
            workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
            table.add_row("estimated time", duration(self.seconds), f"with {workers}")
        parts: list[RenderableType] = [table]
        if self.failures:
            parts.append(Text("failed", style="red"))
            parts += [Text(failure) for failure in self.failures]
        console.print(Group(*parts, "", f"nothing was written to {self.out}"), highlight=False)

    def _notes(self) -> str:
        notes = [f"{self.failed_before:,} of them failed before"] if self.failed_before else []
        if self.left_out:
            notes.append(f"{self.left_out:,} more have the name of another one")
        return "; ".join(notes)

    def _without_size(self) -> str:
        return f"and {self.unknown_sizes:,} of unknown size" if self.unknown_sizes else ""


def plan(
    images: Callable[[], Iterable[Source]],
    out: Location,
    recipe: Recipe,
    *,
    workers: int | None = 1,
    threads: int = 1,
    overwrite: bool = False,
    continue_anyway: bool = False,
    limits: Limits | None = None,
    build: Callable[[Recipe], Pipeline] = build_pipeline,
) -> Plan:
    """Tell what `label` would do with the same arguments, and how long it would take.

    The first images that are to be labelled are labelled in memory, to measure the time.

    Raises:
        InputError: There are no images.
        StoreError: `label` would refuse the folder `out`.
        WeightsError: The model cannot be loaded.
    """
    listed = ImageList(images())
    if len(listed) == 0:
        raise InputError("no images in the inputs: images are files such as .jpg, .png, .heic")
    store = Store(out, recipe)
    store.check(overwrite, continue_anyway)
    prior = Manifest(store.folder).known(store.accepted)
    done_images = DoneImages(store)
    todo: list[Source] = []
    done = failed_before = size = unknown = 0
    for source in listed:
        known = prior.get(as_text(source.name))
        if not overwrite and is_inside(source.name) and done_images.has(source, known):
            done += 1
            continue
        failed_before += known is not None and not known.done and not overwrite
        own_size = bytes_of(source)
        size, unknown = size + (own_size or 0), unknown + (own_size is None)
        if len(todo) < _MEASURED:
            todo.append(source)
    seconds, masks, failures = _measured(todo, store, recipe, threads, limits, build)
    return Plan(
        out=printable(out),
        images=len(listed),
        left_out=listed.left_out,
        done=done,
        failed_before=failed_before,
        bytes=size,
        unknown_sizes=unknown,
        measured=len(todo),
        seconds_per_image=statistics.median(seconds) if seconds else None,
        masks_per_image=statistics.median(masks) if masks else None,
        workers=_at_once(workers, recipe, len(listed), threads),
        failures=failures,
    )


def _at_once(workers: int | None, recipe: Recipe, images: int, threads: int) -> int:
    """The number of workers that can work at the same time."""
    if workers is None:
        return auto_workers(recipe, images, threads)
    return min(workers, max(1, usable_cores() // threads))


def _measured(
    sources: list[Source],
    store: Store,
    recipe: Recipe,
    threads: int,
    limits: Limits | None,
    build: Callable[[Recipe], Pipeline],
) -> tuple[list[float], list[int], list[str]]:
    """Label images in memory; return seconds and masks of each, and why others failed."""
    seconds, masks, failures = list[float](), list[int](), list[str]()
    if sources:
        annotator = Annotator(build(recipe), store, limits)
        with torch_threads(threads):
            for source in sources:
                began = time.perf_counter()
                state = annotator.read(Task(source))
                annotator.expect(state)
                annotator.segment(state)
                if state.error is None and state.segments is not None:
                    seconds.append(time.perf_counter() - began)
                    masks.append(len(state.segments))
                else:
                    failures.append(state.error or source.printable)
    return seconds, masks, failures
