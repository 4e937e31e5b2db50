"""One photo, from its file to its result and its row. Every kind of job runs this.

A photo passes through read, segment and write, so that a thread can read the next one and another
can write the last one while the model works. An error travels along and ends in the row.
"""

from __future__ import annotations

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
from everything.core.segments import Segments
from everything.core.stage_timer import COUNTS, STAGES, Overtime, StageTimer
from everything.errors import EverythingError, StoreError
from everything.io.images.decode import Limits, Photo, decode_image
from everything.io.images.fetch import read_source
from everything.io.images.sources import Source
from everything.io.images.tiff_regions import Tiff, open_tiff
from everything.io.results.manifest import Row
from everything.io.results.writer import Store
from everything.jobs.background_thread import Aside
from everything.pipeline.adaptive_batch_size import is_out_of_memory
from everything.pipeline.pipeline import Pipeline, looks_at, segment_views
from everything.pipeline.scene import NotFinite
from everything.pipeline.tiling import segment_tiles


@dataclass(frozen=True)
class Task:
    """A photo to be done. attempt: 1 for the first try. crashes: of processes that had it."""

    source: Source
    attempt: int = 1
    crashes: int = 0


@dataclass
class ImageState:
    """A photo on its way; `error` is set at the first step that fails."""

    task: Task
    started: float
    timer: StageTimer
    source_bytes: int | None = None
    photo: Photo | None = None
    raster: Tiff | None = None
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    looks: list[View] = field(default_factory=list)
    segments: Segments | None = None
    error: str | None = None


class Annotator:
    """A pipeline, where its results go, and what is read at most."""

    def __init__(self, pipeline: Pipeline, store: Store, limits: Limits | None = None) -> None:
        self._pipeline = pipeline
        self.store = store
        self.limits = limits or Limits()

    @property
    def together(self) -> int:
        """How many photos the model sees at once."""
        return self._pipeline.recipe.compute.images_per_batch

    def __call__(self, task: Task) -> Row:
        """Do all of a photo and return its row; raises StoreError if nothing can be written."""
        visit = self.read(task)
        self.expect(visit)
        return self.write(self.segment(visit))

    def read(self, task: Task) -> ImageState:
        """Read and decode the photo."""
        visit = ImageState(task, time.time(), _timer(self.limits))
        with visit.timer.stage("read"):
            self._guarded(visit, self._read)
        return visit

    def expect(self, visit: ImageState) -> None:
        """Let the model know that `segment` is going to be asked for a photo that was read."""
        if visit.photo is not None and not self._in_tiles(visit.photo):
            visit.looks = looks_at(visit.photo.pixels, self._pipeline.recipe)
            self._pipeline.encoder_queue.expect(visit.looks, visit.timer)

    def segment(self, visit: ImageState) -> ImageState:
        """Find its segments; afterwards the pixels are no longer held."""
        if visit.error is None:
            self._guarded(visit, self._segment)
        visit.photo = visit.raster = None
        visit.looks = []
        return visit

    def write(self, visit: ImageState) -> Row:
        """Write its result, and return its row; raises StoreError if nothing can be written."""
        row = _row(visit, self.store.digest)
        if visit.error is None:
            with visit.timer.stage("write"):
                self._guarded(visit, lambda visit: self._write(visit, row))
        timing = visit.timer.timing()
        row.seconds.update({name: float(timing[name]) for name in (*STAGES, "total")})
        row.counts.update({name: int(value) for name, value in visit.timer.counts.items()})
        row.finished = time.time()
        if visit.error is not None:
            row.fail(visit.error)
        return row

    def _read(self, visit: ImageState) -> None:
        source = visit.task.source
        if (side := self._pipeline.recipe.tiles.tile_side) and source.start is None:
            visit.raster = open_tiff(source.location, side)
            if visit.raster is not None:
                visit.size, visit.source_bytes = visit.raster.size, visit.raster.bytes
                return
        data = read_source(source, self.limits)
        visit.source_bytes = len(data)
        visit.photo = decode_image(data, source.printable, self.limits)
        visit.size = (visit.photo.height, visit.photo.width)
        visit.notes = visit.photo.notes

    def _segment(self, visit: ImageState) -> None:
        if visit.raster is not None:
            with closing(visit.raster):
                visit.segments = segment_tiles(visit.raster, self._pipeline, visit.timer)
            return
        assert visit.photo is not None
        if self._in_tiles(visit.photo):
            raster = Pixels(visit.photo.pixels)
            visit.segments = segment_tiles(raster, self._pipeline, visit.timer)
        else:
            visit.segments = segment_views(visit.looks, self._pipeline, visit.timer)

    def _in_tiles(self, photo: Photo) -> bool:
        return 0 < self._pipeline.recipe.tiles.tile_side < max(photo.height, photo.width)

    def _write(self, visit: ImageState, row: Row) -> None:
        assert visit.segments is not None
        assert visit.size is not None
        name, timer = visit.task.source.name, visit.timer
        output = self.store.recipe.output
        if output.label_map:
            label_map = visit.segments.label_map(visit.size, output.label_map_full)
            self.store.put_label_map(name, label_map)

        def timing() -> dict[str, float | int]:
            with timer.stage("write"):  # what the outer stage has taken so far is added up
                return timer.timing()

        records = visit.segments.to_sa1b(output.parents)
        stamp = self.store.put(name, visit.size, records, timing, visit.notes)
        row.bytes, row.mtime_ns = stamp.size, stamp.mtime_ns
        if not self.store.holds:
            settle([row], self.store)

    def _guarded(self, visit: ImageState, step: Callable[[ImageState], None]) -> None:
        try:
            step(visit)
        except StoreError:
            raise
        except EverythingError as error:
            visit.error = str(error)
        except Exception as error:
            # Whatever one photo brings about, millions of others wait: it becomes its row.
            visit.error = f"{visit.task.source.printable}: {self._reason(error)}"

    def _reason(self, error: Exception) -> str:
        if isinstance(error, Overtime):
            return overtime(self.limits.max_seconds, f"{error.stage} was next")
        if isinstance(error, NotFinite):
            return str(error)
        if is_out_of_memory(error):
            return "not enough memory to segment it: use fewer --workers, or set tiles.tile_side"
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return f"{printable(reason)}: report it as a bug"


def settle(rows: list[Row], store: Store) -> None:
    """Write the results that the store holds, and note in their rows where they are."""
    written = store.flush()
    for row in rows:
        if written is not None and row.status == "done" and row.shard is None:
            row.shard, (row.bytes, row.mtime_ns) = written[0], written[1].pair


def run(annotator: Annotator, tasks: Iterator[Task | None], emit: Callable[[Row], None]) -> None:
    """Do all tasks in order, reading one photo ahead and writing one result behind.

    tasks: asked for the next one from a thread; None where it would have to wait for one. emit:
    called with each row, one after the other, from a thread. The pixels of at most two photos are
    held, or of twice as many as are encoded together. Raises what `emit`, `tasks` and Annotator
    raise.
    """

    def read_some() -> list[ImageState]:
        visits: list[ImageState] = []
        for task in tasks:
            if task is not None:
                visits.append(annotator.read(task))
            if visits and (task is None or len(visits) == annotator.together):
                break
        return visits

    def write(visit: ImageState) -> None:
        emit(annotator.write(visit))

    reader, writer = Aside("read"), Aside("write")
    try:
        reader.begin(read_some)
        is_writing = False
        while visits := reader.end():
            reader.begin(read_some)
            for visit in visits:
                annotator.expect(visit)
            while visits:
                visit = annotator.segment(visits.pop(0))
                if is_writing:
                    writer.end()
                writer.begin(partial(write, visit))
                is_writing = True
        if is_writing:
            writer.end()
    finally:
        # Not the reader: it may be waiting for a task that never comes.
        reader.stop()
        writer.stop(wait=True)


def overtime(limit: float | None, how: str) -> str:
    """Return why a photo has no result and the way out, where it took longer than the limit, s."""
    return f"over the time limit of {limit:g} s ({how}): raise --time-limit, or make it smaller"


def lost(task: Task, digest: str, reason: str) -> Row:
    """Return the row of a photo that took its process with it; reason: with the way out."""
    row = _row(ImageState(task, time.time(), StageTimer()), digest)
    row.fail(f"{task.source.printable}: {reason}")
    return row


def row_of(document: dict[str, Any], source: Source, source_bytes: int | None, store: Store) -> Row:
    """Return the row of a result that is there, as far as the result tells."""
    timing, now = document["timing"], time.time()
    stamp = store.stamp(source.name)
    return Row(
        name=source.name,
        status="done",
        image_id=document["image"]["image_id"],
        digest=store.digest,
        host=socket.gethostname(),
        attempt=1,
        started=now,
        finished=now,
        folder=source.folder,
        file=source.file,
        start=source.start,
        width=document["image"]["width"],
        height=document["image"]["height"],
        seconds={stage: timing[stage] for stage in (*STAGES, "total") if stage in timing},
        counts={name: timing[name] for name in COUNTS if name in timing},
        source_bytes=source_bytes,
        bytes=None if stamp is None else stamp.size,
        mtime_ns=None if stamp is None else stamp.mtime_ns,
        notes=document.get("notes", []),
    )


def _timer(limits: Limits) -> StageTimer:
    """A timer with the time limit; masks found in time are kept, however slow the disk."""
    return StageTimer(limit=limits.max_seconds, unlimited=("write",))


def _row(visit: ImageState, digest: str) -> Row:
    source = visit.task.source
    height, width = visit.size or (None, None)
    return Row(
        name=source.name,
        status="done",
        image_id=image_id(source.name),
        digest=digest,
        host=socket.gethostname(),
        attempt=visit.task.attempt,
        started=visit.started,
        finished=time.time(),
        folder=source.folder,
        file=source.file,
        start=source.start,
        width=width,
        height=height,
        source_bytes=visit.source_bytes,
        notes=list(visit.notes),
    )
