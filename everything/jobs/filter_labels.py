"""`filter`: those masks of a results folder that pass thresholds, or of a level, in a new one."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everything.config import Recipe
from everything.core.file_names import image_id, printable
from everything.core.mask_hierarchy import parents_of
from everything.core.sa1b import Annotation
from everything.errors import InputError
from everything.io.results.categories import add_categories
from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Result, Results
from everything.io.results.writer import Store
from everything.io.storage.locations import Location
from everything.io.storage.ownership import signed
from everything.jobs.status import JobState, write_state
from everything.masks.segments import Segments

MAX_PIXELS = 100_000_000  # of a label map; one without gaps needs some 20 bytes each
Progress = Callable[[int, int], None]


@dataclass
class Filtered:
    """What was kept.

    Attributes:
        photos: Number of images, those without a mask left included.
        masks: Number of masks that were kept.
        filtered_out: Number of masks that were not.
        failed: Number of images that have no result, since they failed when they were labelled.
        unreadable: Number of annotation files that cannot be read, as after an edit by hand, or
            whose label map would be too large. They stay as they are; their images have a row with
            the reason.
        photos_left_out: Number of images that a review leaves out, with all their masks.
        unknown_images: Number of images of the review that the labels do not have.
        unknown_masks: Number of masks of the review that the labels do not have.
    """

    photos: int = 0
    masks: int = 0
    filtered_out: int = 0
    failed: int = 0
    unreadable: int = 0
    photos_left_out: int = 0
    unknown_images: int = 0
    unknown_masks: int = 0


def filter_labels(
    labels: Location,
    out: Location,
    keep: MaskFilter,
    *,
    images: Location | None = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Filtered:
    """Write the masks of a results folder that a filter keeps into another results folder.

    Masks keep their ids, scores, timing and notes, and images that failed their reasons. The
    recipe of the new folder is that of the old one, with the filter beside the sampler's settings.

    Args:
        labels: A results folder of `everything label`, or a folder of SA-1B JSON files.
        out: The new results folder.
        keep: Which masks are kept.
        images: Folder of the images, if they have moved.
        overwrite: Replace earlier results in `out`.
        max_pixels: Leave out larger images, px, where the results have label maps. Run lengths need
            no limit.
        progress: Called with the number of images done and of all images.

    Raises:
        InputError: There are no results, none can be read, `out` is `labels`, or a review does
            not fit them.
        StoreError: `out` cannot be written, or holds something else.
    """
    if _is_same(labels, out):
        raise InputError(f"{printable(str(out))}: the labels themselves: give another --out")
    results = Results(labels, images, keep)
    results.load()
    done, began = Filtered(photos_left_out=len(results.left_out)), time.time()
    if results.review:
        done.unknown_images = results.review.unknown_images
        done.unknown_masks = results.review.unknown_masks
    store = Store(out, _recipe(results, keep))
    with store.opened(overwrite, ways_out=", or --overwrite to replace them"):
        add_categories(store.folder, results.categories)
        manifest = Manifest(store.folder)
        for number, key in enumerate(results.files, 1):
            result = results.read_or_leave_out(key, is_written=True)
            if result is not None and store.recipe.output.label_map:
                result = _small_enough(results, key, result, max_pixels)
            if result is not None:
                manifest.append(_written(results, key, result, store))
                done.photos += 1
                done.masks += len(result.annotations)
                done.filtered_out += result.filtered_out
            if progress is not None:
                progress(number, len(results))
        for name, reason in results.failures.items():
            manifest.append(_failed(name, reason, store.digest))
            done.failed += 1
        for name, reason in results.unreadable.items():
            manifest.append(_failed(name, reason, store.digest))
            done.unreadable += 1
        manifest.compact()
        write_state(store.folder, JobState(_images(done), began, time.time()))
    return done


def _images(done: Filtered) -> int:
    return done.photos + done.failed + done.unreadable


def _small_enough(results: Results, key: str, result: Result, most: int) -> Result | None:
    height, width = result.size
    if height * width <= most:
        return result
    reason = f"{width} x {height} px are over the limit of {most:,} px: raise --max-pixels"
    results.leave_out(key, f"{results.where(key)}: {reason}")
    return None


def _is_same(labels: Location, out: Location) -> bool:
    """Whether both are one folder, however they are written."""
    if isinstance(labels, Path) and isinstance(out, Path):
        return out.exists() and labels.samefile(out)
    return labels == out


def _recipe(results: Results, keep: MaskFilter) -> Recipe:
    first = next(iter(results), None)
    if first is None and results.unreadable:
        raise InputError(next(iter(results.unreadable.values())))
    if first is None:
        raise InputError(f"{printable(str(results.root))}: no results: label images first")
    about = {name: value for name, value in first.recipe.items() if name != "digest"}
    try:
        recipe = Recipe.model_validate(about)
    except ValidationError:  # of another program
        sampler = {"name": "unknown"}
        recipe = Recipe(variant="sa-1b", sampler=sampler, version=version("segevery"), weights="")
    output = recipe.output.model_copy(update={"form": "json"})
    sampler = recipe.sampler | {"filtered": keep.about}
    return recipe.model_copy(update={"sampler": sampler, "output": output})


def _written(results: Results, key: str, result: Result, store: Store) -> Row:
    began, source = time.time(), results.image(key, result.name)
    content = results.source_hash(result.name)
    records = _with_parents(result.annotations)
    if store.recipe.output.label_map:
        segments = Segments.from_sa1b(records, result.size)
        store.put_label_map(result.name, segments.label_map(store.recipe.output.label_map_full))
    stamp = store.put(result.name, result.size, records, lambda: result.timing, result.notes)
    return Row(
        name=result.name,
        status="done",
        image_id=image_id(result.name),
        digest=store.digest,
        host=socket.gethostname(),
        attempt=1,
        started=began,
        finished=time.time(),
        folder=source.folder if source else None,
        file=source.file if source else None,
        start=source.start if source else None,
        source_bytes=source.size if source else None,
        source_hash=None if content is None else signed(content),
        width=result.size[1],
        height=result.size[0],
        counts={"masks": len(records)},
        bytes=stamp.size,
        mtime_ns=stamp.mtime_ns,
        notes=list(result.notes),
    )


def _failed(name: str, reason: str, digest: str) -> Row:
    now, host = time.time(), socket.gethostname()
    return Row(name, "failed", image_id(name), digest, host, 1, now, now, error=reason)


def _with_parents(annotations: Sequence[Annotation]) -> Sequence[Annotation]:
    """A parent may have been left out: the next larger mask that is left takes its place."""
    if not any("parent_id" in one for one in annotations):
        return annotations
    parents = parents_of([one["segmentation"] for one in annotations])
    ids: list[Any] = [one.get("id", row) for row, one in enumerate(annotations)]
    return [
        one | {"parent_id": None if parent is None else ids[parent]}
        for one, parent in zip(annotations, parents, strict=True)
    ]
