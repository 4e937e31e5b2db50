"""The resume rule: which images of a job are done and need not be labelled again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from everything.core.sa1b import check_annotations, size_of
from everything.errors import ImageError
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.sources import Source
from everything.io.results.manifest_rows import Row
from everything.io.results.prior_results import PriorResult
from everything.io.results.writer import Store
from everything.io.storage.ownership import source_hash
from everything.jobs.annotator import mtime_of, row_of


class DoneImages:
    """Tells which images are done; writes nothing.

    Args:
        store: The results.
        on_lost_row: Called with the row of a result that the manifest does not list.

    Attributes:
        changed: Number of images that have changed since they were labelled.
    """

    def __init__(self, store: Store, on_lost_row: Callable[[Row], None] = lambda row: None) -> None:
        self._store, self._on_lost_row = store, on_lost_row
        self._sharded = store.recipe.output.form != "json"
        self.changed = 0

    def has(self, source: Source, prior: PriorResult | None) -> bool:
        """Tell whether an image is done. prior: its state by the manifest, None if it has none."""
        if prior is not None and not prior.done:
            return False
        source_bytes = bytes_of(source)
        if prior is not None:
            if _has_changed(source, prior, source_bytes):
                self.changed += 1
                return False
            if prior.stamp and self._store.is_untouched(source.name, prior.stamp, prior.shard):
                return True
        if self._sharded or self._store.stamp(source.name) is None:
            return False
        document = self._store.get(source.name)
        if document is None or not _is_readable(document):
            return False
        # A kill lost its row, or the results have been copied.
        self._on_lost_row(row_of(document, source, source_bytes, self._store))
        return True


def bytes_of(source: Source) -> int | None:
    """Return the size of an image's file in bytes, None if it takes a request to know."""
    if source.size is not None or source.start is not None:
        return source.size
    with suppress(OSError, ValueError):
        # Not Path.stat: making a million paths takes as long as the calls themselves.
        place = source.file or f"{source.folder}/{source.name}"
        return os.stat(place.removeprefix("file://")).st_size  # noqa: PTH116
    return None


def _has_changed(source: Source, prior: PriorResult, size: int | None) -> bool:
    """Tell whether an image's file is another one than the one that was labelled."""
    if prior.source_bytes is None and prior.shard:
        return False
    if size != prior.source_bytes and not (size is None and source.file):
        return True
    mtime_ns = None if prior.source_mtime_ns is None else mtime_of(source)
    if mtime_ns is None or mtime_ns == prior.source_mtime_ns:
        return False
    if prior.source_hash is None:
        return True
    try:
        # Copied, or only its date was changed.
        return source_hash(read_source(source, Limits())) != prior.source_hash
    except ImageError:
        return True


def _is_readable(document: dict[str, Any]) -> bool:
    """Tell whether others can read a result, which may have been edited by hand."""
    try:
        check_annotations(document["annotations"], size_of(document["image"]))
        return True
    except (ValueError, TypeError, LookupError, AttributeError):
        return False
