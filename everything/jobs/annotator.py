"""Annotate one image, from its file to its result and its row. Every kind of job runs this.

The steps are read, segment and write, so that one thread can read the next image and another one
can write the previous result while the model works. An error is kept and ends up in the row.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from everything.core.file_names import image_id, printable
from everything.core.geometry import View
from everything.core.raster import Pixels
from everything.core.stage_timer import COUNTS, STAGES, Overtime, StageTimer
from everything.errors import EverythingError, StoreError, reason_of
from everything.io.images.decode import DecodedImage, Limits, decode_image
from everything.io.images.fetch import read_source
from everything.io.images.sources import Source
from everything.io.images.tiff_regions import Tiff, open_tiff
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.io.storage.ownership import source_hash
from everything.jobs.background_thread import BackgroundThread
from everything.masks.segments import Segments
from everything.pipeline.adaptive_batch_size import is_out_of_memory
from everything.pipeline.pipeline import (
    Pipeline,
    is_for_tiles,
    segment_tiles,
    segment_views,
    views_of,
)
from everything.pipeline.scene import NotFinite


@dataclass(frozen=True)
class Task:
    """An image to annotate. attempt: 1 for the first. crashes: of workers that had it."""

    source: Source
    attempt: int = 1
    crashes: int = 0


@dataclass
class ImageState:
    """An image between the steps; `error` is set by the first step that fails."""

    task: Task
    started: float
    timer: StageTimer
    source_bytes: int | None = None
    source_mtime_ns: int | None = None
    source_hash: int | None = None
    photo: DecodedImage | None = None
    raster: Tiff | None = None
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    views: list[View] = field(default_factory=list)
    segments: Segments | None = None
    error: str | None = None


class Annotator:
    """Annotates images with a pipeline and writes the results to a store."""

    def __init__(self, pipeline: Pipeline, store: Store, limits: Limits | None = None) -> None:
        self._pipeline = pipeline
        self.store = store
        self.limits = limits or Limits()

    @property
    def batch_size(self) -> int:
        """Number of images in a batch of the image encoder."""
        return self._pipeline.recipe.compute.images_per_batch

    def __call__(self, task: Task) -> Row:
        """Annotate an image and return its row; raises StoreError if nothing can be written."""
        state = self.read(task)
        self.expect(state)
        return self.write(self.segment(state))

    def read(self, task: Task) -> ImageState:
        """Read and decode the image."""
        state = ImageState(task, time.time(), _timer(self.limits))
        with state.timer.stage("read"):
            self._guarded(state, self._read)
        return state

    def expect(self, state: ImageState) -> None:
        """Queue an image that was read for the image encoder, so that it can encode batches."""
        if state.photo is not None and not self._in_tiles(state.photo):
            state.views = views_of(state.photo.pixels, self._pipeline.recipe)
            self._pipeline.state.encoder_queue.expect(state.views, state.timer)

    def segment(self, state: ImageState) -> ImageState:
        """Segment the image; afterwards its pixels are released."""
        if state.error is None:
            self._guarded(state, self._segment)
        state.photo = state.raster = None
        state.views = []
        return state

    def write(self, state: ImageState) -> Row:
        """Write the result and return its row; raises StoreError if nothing can be written."""
        row = _row(state, self.store.digest)
        if state.error is None:
            with state.timer.stage("write"):
                self._guarded(state, lambda state: self._write(state, row))
        timing = state.timer.timing()
        row.seconds.update({name: float(timing[name]) for name in (*STAGES, "total")})
        row.counts.update({name: int(value) for name, value in state.timer.counts.items()})
        row.finished = time.time()
        if state.error is not None:
            row.fail(state.error)
        return row

    def _read(self, state: ImageState) -> None:
        source = state.task.source
        # Before it is read: an image that changes meanwhile is read again by the next job.
        state.source_mtime_ns = mtime_of(source)
        if (side := self._pipeline.recipe.tiles.tile_side) and source.start is None:
            state.raster = open_tiff(source.location, side)
            if state.raster is not None:
                state.size, state.source_bytes = state.raster.size, state.raster.bytes
                state.notes = state.raster.notes
                return
        data = read_source(source, self.limits)
        state.source_bytes, state.source_hash = len(data), source_hash(data)
        stretch = self._pipeline.recipe.reading.stretch
        state.photo = decode_image(data, source.printable, self.limits, stretch)
        state.size = (state.photo.height, state.photo.width)
        state.notes = state.photo.notes

    def _segment(self, state: ImageState) -> None:
        if state.raster is not None:
            with closing(state.raster):
                state.segments = segment_tiles(state.raster, self._pipeline, state.timer)
            return
        assert state.photo is not None
        if self._in_tiles(state.photo):
            raster = Pixels(state.photo.pixels)
            state.segments = segment_tiles(raster, self._pipeline, state.timer)
        else:
            state.segments = segment_views(state.views, self._pipeline, state.timer)

    def _in_tiles(self, photo: DecodedImage) -> bool:
        return is_for_tiles((photo.height, photo.width), self._pipeline.recipe)

    def _write(self, state: ImageState, row: Row) -> None:
        assert state.segments is not None
        assert state.size is not None
        name, timer = state.task.source.name, state.timer
        output = self.store.recipe.output
        if output.label_map:
            label_map = state.segments.label_map(output.label_map_full)
            self.store.put_label_map(name, label_map)

        def timing() -> dict[str, float | int]:
            with timer.stage("write"):  # adds the time of the outer stage so far
                return timer.timing()

        records = state.segments.to_sa1b(output.parents)
        stamp = self.store.put(name, state.size, records, timing, state.notes)
        row.bytes, row.mtime_ns = stamp.size, stamp.mtime_ns
        if not self.store.is_buffering:
            flush_results([row], self.store)

    def _guarded(self, state: ImageState, step: Callable[[ImageState], None]) -> None:
        try:
            step(state)
        except StoreError:
            raise
        except EverythingError as error:
            state.error = str(error)
        except Exception as error:
            # Whatever goes wrong with one image must not stop millions of others: it fails alone.
            state.error = f"{state.task.source.printable}: {self._reason(error)}"

    def _reason(self, error: Exception) -> str:
        if isinstance(error, Overtime):
            return timeout_reason(self.limits.max_seconds, f"{error.stage} was next")
        if isinstance(error, NotFinite):
            return str(error)
        if is_out_of_memory(error):
            return "not enough memory to segment it: use fewer --workers, or set tiles.tile_side"
        reason = f"{type(error).__name__}: {reason_of(error)}"
        return f"{printable(reason)}: report it as a bug"


def flush_results(rows: list[Row], store: Store) -> None:
    """Write the results that the store has buffered, and record in their rows where they are."""
    written = store.flush()
    for row in rows:
        if written is not None and row.status == "done" and row.shard is None:
            row.shard, (row.bytes, row.mtime_ns) = written[0], written[1].pair


def run(annotator: Annotator, tasks: Iterator[Task | None], emit: Callable[[Row], None]) -> None:
    """Annotate all tasks in order, while threads read the next image and write the last result.

    The pixels of at most two batches of images are held. Raises what `emit`, `tasks` and the
    annotator raise.

    Args:
        annotator: does the work.
        tasks: consumed by a thread; yields None where it would have to wait for the next task.
        emit: called by a thread with each row, one at a time.
    """

    def read_some() -> list[ImageState]:
        states: list[ImageState] = []
        for task in tasks:
            if task is not None:
                states.append(annotator.read(task))
            if states and (task is None or len(states) == annotator.batch_size):
                break
        return states

    def write(state: ImageState) -> None:
        emit(annotator.write(state))

    reader, writer = BackgroundThread("read"), BackgroundThread("write")
    try:
        reader.begin(read_some)
        is_writing = False
        while states := reader.end():
            reader.begin(read_some)
            for state in states:
                annotator.expect(state)
            while states:
                state = annotator.segment(states.pop(0))
                if is_writing:
                    writer.end()
                writer.begin(partial(write, state))
                is_writing = True
        if is_writing:
            writer.end()
    finally:
        # Do not wait for the reader: its next task may never come.
        reader.stop()
        writer.stop(wait=True)


def timeout_reason(limit: float | None, how: str) -> str:
    """Return the error of an image that took longer than the limit (s). how: where it was."""
    return f"over the time limit of {limit:g} s ({how}): raise --time-limit, or resize the image"


def row_of_crash(task: Task, digest: str, reason: str) -> Row:
    """Return the row of an image that crashed its worker. reason: with the way out."""
    row = _row(ImageState(task, time.time(), StageTimer()), digest)
    row.fail(f"{task.source.printable}: {reason}")
    return row


def row_of(document: dict[str, Any], source: Source, source_bytes: int | None, store: Store) -> Row:
    """Return the row of an existing result, as far as the result has the information."""
    timing, now = document["timing"], time.time()
    stamp, (folder, file) = store.stamp(source.name), source.recorded
    return Row(
        name=source.name,
        status="done",
        image_id=document["image"]["image_id"],
        digest=store.digest,
        host=socket.gethostname(),
        attempt=1,
        started=now,
        finished=now,
        folder=folder,
        file=file,
        start=source.start,
        width=document["image"]["width"],
        height=document["image"]["height"],
        seconds={stage: timing[stage] for stage in (*STAGES, "total") if stage in timing},
        counts={name: timing[name] for name in COUNTS if name in timing},
        source_bytes=source_bytes,
        source_mtime_ns=mtime_of(source),
        bytes=None if stamp is None else stamp.size,
        mtime_ns=None if stamp is None else stamp.mtime_ns,
        notes=document.get("notes", []),
    )


def mtime_of(source: Source) -> int | None:
    """Return the modification time of an image's file on a disk, ns since 1970."""
    place = source.file or f"{source.folder}/{source.name}"
    try:
        return os.stat(place.removeprefix("file://")).st_mtime_ns  # noqa: PTH116 - called a million times
    except (OSError, ValueError):
        return None  # it is remote, or gone


def _timer(limits: Limits) -> StageTimer:
    """A timer with the time limit; masks found in time are kept, however slow the disk."""
    return StageTimer(limit=limits.max_seconds, unlimited=("write",))


def _row(state: ImageState, digest: str) -> Row:
    source = state.task.source
    height, width = state.size or (None, None)
    folder, file = source.recorded
    return Row(
        name=source.name,
        status="done",
        image_id=image_id(source.name),
        digest=digest,
        host=socket.gethostname(),
        attempt=state.task.attempt,
        started=state.started,
        finished=time.time(),
        folder=folder,
        file=file,
        start=source.start,
        width=width,
        height=height,
        source_bytes=state.source_bytes,
        source_mtime_ns=state.source_mtime_ns,
        source_hash=state.source_hash,
        notes=list(state.notes),
    )
