"""The folder job: every photo annotated once, whatever happens to the job or to a photo."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console

from everything.config import Recipe
from everything.core.file_names import as_text, is_inside
from everything.core.threads import torch_threads, usable_cores
from everything.errors import ConfigError, InputError
from everything.io.images.decode import Limits
from everything.io.images.sources import Source
from everything.io.results.manifest import Manifest, PriorResult, Row
from everything.io.results.writer import Store
from everything.io.storage.locations import Location
from everything.jobs.annotator import Annotator, Task, row_of, run
from everything.jobs.progress import progress_of
from everything.jobs.status import JobState, has_died, write_state
from everything.jobs.summary import Summary
from everything.jobs.worker_pool import run_in_processes
from everything.pipeline.pipeline import Pipeline
from everything.recipes.build import build as build_pipeline

_log = logging.getLogger(__name__)
Build = Callable[[Recipe], Pipeline]


class Executor(Protocol):
    """Other machines that do the tasks, in place of processes of this one."""

    def __call__(
        self,
        make: Callable[[], Annotator],
        store: Store,
        tasks: Iterator[Task],
        emit: Callable[..., None],
    ) -> None:
        """Call `emit` here with the rows of all tasks, one or several at a time: those that are
        given together are also kept together. make: called there, so it is pickled."""


def label(
    photos: Callable[[], Iterable[Source]],
    out: Location,
    recipe: Recipe,
    *,
    workers: int = 1,
    threads: int = 1,
    overwrite: bool = False,
    preview: bool = True,
    limits: Limits | None = None,
    console: Console | None = None,
    build: Build = build_pipeline,
    executor: Executor | None = None,
) -> Summary:
    """Annotate photos into the folder `out` and return what was done.

    photos: called twice, to count the photos and to go through them. A photo whose result of this
    recipe is there is skipped; one that fails has a row and stops nothing. workers: processes, 1
    is this one. threads: of torch in each process; another number rounds in another order, which
    can tip a mask, so by default it does not depend on the machine. overwrite: begin anew.
    preview: write a page that shows the masks. limits: of photos; with one of time even a single
    worker is a process of its own, since nothing else can be ended, and so it is where a job has
    died before, perhaps of a photo, which then costs itself only. console: for progress. build:
    makes the pipeline in each process. elsewhere: does the photos instead of this machine (Ray).

    An interrupt (Ctrl-C) ends the job in good order. Raises InputError if there are no photos,
    WeightsError, and StoreError or JobError if the job cannot begin or go on.
    """
    if executor is None and recipe.output.form != "json":
        raise ConfigError(
            f"output.form = {recipe.output.form!r}: shards are written by jobs on Ray: add --ray"
        )
    limits = limits or Limits()
    summary = Summary(out, images=sum(1 for _ in photos()))
    if summary.images == 0:
        raise InputError("no photos in the inputs: photos are files like .jpg, .png, .heic")
    store = Store(out, recipe)
    here = workers == 1 and executor is None and limits.max_seconds is None
    after_death = has_died(store.folder)
    if here and after_death and store.folder.is_shared:
        _log.warning("the job before this one did not end: photos are done in a worker process")
        here = False
    if not here and executor is None:
        store.must_be_shared()
    # Before anything is overwritten, the model must have shown that it loads.
    pipeline = build(recipe) if here or overwrite else None
    if executor is None:
        _tell_of_idle_cores(workers * threads, summary.images)
    with store.opened(overwrite):
        with progress_of(summary, console or Console(stderr=True)) as on_update:
            job = LabelJob(store, photos, summary, on_update, after_death)
            try:
                tasks, count = job.tasks(), job.count
                make = partial(_annotator, build, recipe, out, limits, store.folder.permit)
                if executor is not None:
                    executor(make, store, tasks, count)
                elif here and pipeline is not None:
                    with torch_threads(threads):
                        run(Annotator(pipeline, store, limits), tasks, count)
                else:
                    seconds = limits.max_seconds
                    run_in_processes(make, store.digest, tasks, count, workers, threads, seconds)
            except KeyboardInterrupt:
                summary.interrupted = True
        job.end()
        if preview and not summary.interrupted and isinstance(out, Path):
            from everything.report.preview import write_preview

            summary.preview = write_preview(out)
    return summary


def _tell_of_idle_cores(used: int, images: int) -> None:
    cores = usable_cores()
    if used < cores and images > 1:
        _log.info("%d of %d cores are in use: --workers %d is faster", used, cores, cores)


def _annotator(
    build: Build, recipe: Recipe, out: Location, limits: Limits, permit: str
) -> Annotator:
    return Annotator(build(recipe), Store(out, recipe, permit), limits)


class LabelJob:
    """The images of a job: those still to do, and the rows of those that are done.

    Args:
        store: where the results go.
        photos: lists the images.
        summary: counts what is done.
        on_update: called after each change of the summary.
        after_death: whether an earlier job in this folder was killed.
    """

    def __init__(
        self,
        store: Store,
        photos: Callable[[], Iterable[Source]],
        summary: Summary,
        on_update: Callable[[], None] = lambda: None,
        after_death: bool = False,
    ) -> None:
        self._store, self._photos, self.summary = store, photos, summary
        self.manifest = Manifest(store.folder)
        self.manifest.compact()  # what a killed run has left
        self._known = self.manifest.known(store.digest)
        self._sharded = store.recipe.output.form != "json"
        if self._sharded and self._found():
            self._known = self.manifest.known(store.digest)
        self._state = JobState(summary.images, time.time(), after_death=after_death)
        write_state(store.folder, self._state)
        store.cache_listing()
        self._on_update = on_update

    def _found(self) -> int:
        """Append rows of the results in shards that no row tells of; return how many."""
        count = 0
        for shard, stamp, documents in self._store.shards(self._known.shards):
            for document in documents:
                name = document["image"]["file_name"]
                if self._known.get(name) is None:
                    row = row_of(document, Source("", name), None, self._store)
                    row.shard, (row.bytes, row.mtime_ns) = shard, stamp.pair
                    self.manifest.append(row)
                    count += 1
        self.manifest.flush()
        return count

    def tasks(self) -> Iterator[Task]:
        """Yield the photos that are not done."""
        for source in self._photos():
            if not is_inside(source.name):
                yield Task(source)  # reading it says why not
                continue
            known = self._known.get(as_text(source.name))
            if self._is_done(source, known):
                self.summary.skipped += 1
                self._on_update()
                continue
            # Whatever is there is of another photo, another recipe or broken.
            if self._store.stamp(source.name) is not None:
                self._store.discard(source.name)
            yield Task(source, attempt=1 if known is None else known.attempt + 1)

    def count(self, *rows: Row) -> None:
        """Keep rows."""
        self.manifest.append(*rows)
        for row in rows:
            self.summary.count(row)
        self._on_update()

    def end(self) -> None:
        """Put the manifest in order."""
        self.manifest.compact()
        write_state(self._store.folder, replace(self._state, ended=time.time()))

    def _is_done(self, source: Source, known: PriorResult | None) -> bool:
        if known is not None and not known.done:
            return False
        source_bytes = _size(source)
        if known is not None:
            if known.source_bytes != source_bytes and not (
                known.shard and known.source_bytes is None
            ):
                return False
            if known.stamp and self._store.is_untouched(source.name, known.stamp, known.shard):
                return True
        if self._sharded:
            return False
        document = self._store.get(source.name)
        if document is None:
            return False
        # Its row was lost in a kill, or the results have been copied.
        self.manifest.append(row_of(document, source, source_bytes, self._store))
        return True


def _size(source: Source) -> int | None:
    if source.size is not None or source.file is not None:
        return source.size
    with suppress(OSError):
        # Not of a Path: to make a million of them takes as long as to ask.
        return os.stat(f"{source.folder}/{source.name}").st_size  # noqa: PTH116
    return None
