"""Label a folder: every image is annotated once, whatever happens to the job or to an image."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow.compute as pc
from rich.console import Console

from everything.config import Recipe
from everything.core.console import progress_console, spinner
from everything.core.file_names import as_text, is_inside
from everything.core.threads import torch_threads, usable_cores
from everything.errors import ConfigError, InputError, JobError
from everything.io.images.decode import Limits
from everything.io.images.sources import Source
from everything.io.results.image_folders import remember
from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.io.storage.locations import Location, located
from everything.jobs.annotator import Annotator, Task, row_of, run
from everything.jobs.auto_workers import auto_workers, devices_of
from everything.jobs.image_list import ImageList, check_earlier_images
from everything.jobs.progress import JobObserver, show_progress
from everything.jobs.repeated_failures import STOP_AFTER, AlikeFailures
from everything.jobs.resume import DoneImages
from everything.jobs.status import JobState, has_crashed, read_state, write_state
from everything.jobs.summary import Summary
from everything.jobs.worker_pool import run_in_processes
from everything.pipeline.pipeline import Pipeline
from everything.recipes.build import build as build_pipeline

_log = logging.getLogger(__name__)
Build = Callable[[Recipe], Pipeline]


class Executor(Protocol):
    """Runs the tasks elsewhere, such as on a cluster, instead of in processes of this machine."""

    def __call__(
        self,
        make: Callable[[], Annotator],
        store: Store,
        tasks: Iterator[Task],
        emit: Callable[..., None],
    ) -> None:
        """Run all tasks and call `emit` in this process with their rows, one or several at a time;
        rows of one call are appended to the manifest at once.

        Args:
            make: makes the annotator; pickled, and called in each worker.
            store: where the results go.
            tasks: the images to annotate.
            emit: called with rows, in any order.
        """


def label(
    images: Callable[[], Iterable[Source]],
    out: Location,
    recipe: Recipe,
    *,
    workers: int | None = 1,
    threads: int = 1,
    overwrite: bool = False,
    continue_anyway: bool = False,
    preview: bool = True,
    limits: Limits | None = None,
    console: Console | None = None,
    build: Build = build_pipeline,
    executor: Executor | None = None,
    stop_after_failures: int = STOP_AFTER,
    observer: JobObserver | None = None,
) -> Summary:
    """Annotate images, write the results to `out` and return a summary.

    Images whose result of this recipe exists are skipped, so the same call resumes a job. An image
    that fails gets a row and stops nothing. An interrupt (Ctrl-C) ends the job in good order.

    Args:
        images: lists the images; called once.
        out: folder or bucket of the results.
        recipe: all settings.
        workers: number of processes; None: what serves the job best (auto_workers.py). 1 is this
            process, unless there is a time limit or the previous job here was killed: then an
            image that hangs or crashes must not end the job.
        threads: PyTorch threads of each process. Another number rounds in another order, which can
            change masks, so the default does not depend on the machine.
        overwrite: remove existing results first; files that this program did not write are kept.
        continue_anyway: accept results of another recipe as done; what differs is logged.
        preview: write a page that shows the masks.
        limits: of the images and of the time for each.
        console: for progress; stderr if not given.
        build: makes the pipeline in each process.
        executor: runs the tasks instead of this machine (Ray).
        stop_after_failures: stop if the first so many images all fail for the same reason; 0:
            never. Images that failed before are no reason to stop a job in which others are done.
        observer: hears of the start, of each image and of the end.

    Raises:
        InputError: if there are no images, or a result of another image would be replaced.
        WeightsError: if the model cannot be loaded.
        StoreError: if results cannot be written.
        JobError: if the job cannot start or continue, or the first images all fail alike.
    """
    if executor is None:
        refuse_shards(recipe)
    limits, console = limits or Limits(), console or progress_console()
    observer = observer or JobObserver()
    listed = ImageList(images())
    if len(listed) == 0:
        raise InputError("no images in the inputs: images are files such as .jpg, .png, .heic")
    listed.warn()
    summary = Summary(out, images=len(listed), left_out=listed.left_out)
    store = Store(out, recipe)
    if workers is None:
        workers = auto_workers(recipe, len(listed), threads) if executor is None else 1
    elif executor is None:
        _log_idle_cores(workers * threads, len(listed))
    in_this_process = workers == 1 and executor is None and limits.max_seconds is None
    after_death = has_crashed(store.folder)
    if in_this_process and after_death and store.folder.is_shared:
        _log.warning("the previous job did not end: images are annotated in a worker process")
        in_this_process = False
    if not in_this_process and executor is None:
        store.must_be_shared()
    # Nothing is overwritten before the model is known to load.
    with spinner("loading the model", console):
        pipeline = build(recipe) if in_this_process or overwrite else None
    with store.opened(overwrite, continue_anyway):
        observer.started(summary, recipe)
        with show_progress(summary, console) as on_update:
            job = LabelJob(
                store, listed, summary, on_update, after_death, stop_after_failures, observer
            )
            try:
                tasks, count = job.tasks(), job.count
                permit = store.folder.permit
                if executor is not None:
                    make = partial(_annotator, build, recipe, out, limits, permit)
                    executor(make, store, tasks, count)
                elif in_this_process and pipeline is not None:
                    with torch_threads(threads):
                        run(Annotator(pipeline, store, limits), tasks, count)
                else:
                    makes = [
                        partial(_annotator, build, recipe, out, limits, permit, device)
                        for device in devices_of(recipe.compute)
                    ]
                    seconds = limits.max_seconds
                    run_in_processes(makes, store.digest, tasks, count, workers, threads, seconds)
            except KeyboardInterrupt:
                summary.interrupted = True
            except JobError:
                job.end()  # no image is suspected of having killed it
                raise
        job.end()
        if preview and not summary.interrupted and isinstance(out, Path):
            from everything.report.preview import write_preview

            summary.preview = write_preview(out)
    observer.ended(summary)
    return summary


def refuse_shards(recipe: Recipe) -> None:
    """Raise ConfigError if a recipe writes shards, which jobs on this machine do not."""
    if recipe.output.form != "json":
        raise ConfigError(
            f"output.form = {recipe.output.form!r}: shards are written by jobs on Ray: add --ray"
        )


def _log_idle_cores(used: int, images: int) -> None:
    cores = usable_cores()
    if used < cores and images > 1:
        _log.info("%d of %d cores are in use: --workers %d is faster", used, cores, cores)


def _annotator(
    build: Build,
    recipe: Recipe,
    out: Location,
    limits: Limits,
    permit: str,
    device: str | None = None,
) -> Annotator:
    """Make an annotator; which of several GPUs it uses is no part of its results."""
    compute = recipe.compute.model_copy(update={"device": device or recipe.compute.device})
    pipeline = build(recipe.model_copy(update={"compute": compute}))
    return Annotator(pipeline, Store(out, recipe, permit), limits)


class LabelJob:
    """The images of a job: those still to do, and the rows of those that are done.

    Args:
        store: where the results go.
        images: the images.
        summary: counts what is done.
        on_update: called after each change of the summary.
        after_death: whether an earlier job in this folder was killed.
        stop_after_failures: as for `label`.
        observer: hears of each image.

    Raises:
        InputError: if a result of another image would be replaced.
    """

    def __init__(
        self,
        store: Store,
        images: ImageList,
        summary: Summary,
        on_update: Callable[[], None] = lambda: None,
        after_death: bool = False,
        stop_after_failures: int = STOP_AFTER,
        observer: JobObserver | None = None,
    ) -> None:
        self._store, self._images, self.summary = store, images, summary
        self._observer = observer or JobObserver()
        self.manifest = Manifest(store.folder)
        self._done = DoneImages(store, self.manifest.append)
        self.manifest.compact()  # rows of a run that was killed
        self._prior = self.manifest.known(store.accepted)
        self._sharded = store.recipe.output.form != "json"
        if self._sharded and self._found():
            self._prior = self.manifest.known(store.accepted)
        self._check_names()
        self._failures = AlikeFailures(0 if self._prior.done else stop_after_failures)
        count = len(images) + len(self._prior) - self._prior.count(images.keys)
        self._previous = read_state(store.folder)
        self._state = JobState(count, time.time(), after_death=after_death)
        write_state(store.folder, self._state)
        store.cache_listing()
        self._on_update = on_update

    def _check_names(self) -> None:
        """Compare the images with those of earlier jobs, if they are from different folders."""
        if len(self._prior):
            earlier = self.manifest.places()
            first = next(iter(self._images))
            same_folder = pc.unique(earlier["folder"]).to_pylist() == [as_text(first.folder)]
            if not same_folder and not first.file:
                remember(self._store.folder, located(first.folder))  # they may have moved
            if not same_folder or first.file or earlier["file"].null_count < earlier.num_rows:
                check_earlier_images(self._images, earlier)

    def _found(self) -> int:
        """Append the missing rows of results in shards; return how many there were."""
        count = 0
        for shard, stamp, documents in self._store.shards(self._prior.shards):
            for document in documents:
                name = document["image"]["file_name"]
                if self._prior.get(name) is None:
                    row = row_of(document, Source("", name), None, self._store)
                    row.shard, (row.bytes, row.mtime_ns) = shard, stamp.pair
                    self.manifest.append(row)
                    count += 1
        self.manifest.flush()
        return count

    def tasks(self) -> Iterator[Task]:
        """Yield the images that are still to annotate."""
        for source in self._images:
            if not is_inside(source.name):
                yield Task(source)  # reading it fails with the reason
                continue
            prior = self._prior.get(as_text(source.name))
            if self._done.has(source, prior):
                self.summary.skipped += 1
                self._observer.image(source.name, None)
                self._on_update()
                continue
            # An existing result is of another image or recipe, or broken.
            if self._store.stamp(source.name) is not None:
                self._store.discard(source.name, prior and prior.stamp)
            yield Task(source, attempt=1 if prior is None else prior.attempt + 1)

    def count(self, *rows: Row) -> None:
        """Append rows to the manifest and count them."""
        self.manifest.append(*rows)
        for row in rows:
            self.summary.count(row)
            self._observer.image(row.name, row)
        self._on_update()
        for row in rows:
            self._failures.add(row)

    def end(self) -> None:
        """Compact the manifest and record the end of the job."""
        if self._done.changed:
            _log.warning(
                "%d images have changed since they were labelled and were labelled again",
                self._done.changed,
            )
        self.manifest.compact()
        state, previous = replace(self._state, ended=time.time()), self._previous
        if previous and previous.ended and not (self.summary.done or self.summary.failed):
            # There was nothing to do: `status` reports the speed of the run that did it.
            state = replace(state, began=previous.began, ended=previous.ended)
        write_state(self._store.folder, state)
