"""The state of a job's images after earlier runs, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everything.io.storage.hashed_index import HashedIndex
from everything.io.storage.storage import Stamp

_BATCH = 4096
KNOWN = ("name", "status", "digest", "shard", "attempt", "source_bytes", "bytes", "mtime_ns",
          "source_mtime_ns", "source_hash")  # fmt: skip


class PriorResult(NamedTuple):
    """The state of an image after earlier runs; `done` refers to the requested recipe."""

    done: bool
    attempt: int
    source_bytes: int | None
    stamp: Stamp | None
    shard: str | None
    source_mtime_ns: int | None = None
    source_hash: int | None = None


class PriorResults:
    """The state of images after earlier runs, by `as_text` of their names; 80 bytes per image.

    Args:
        rows: A table of the columns KNOWN.
        digest: Digest of the requested recipe; None for any.

    Attributes:
        shards: The files with results of several images, numbered.
        done: The number of images that are done.
    """

    def __init__(self, rows: pa.Table, digest: str | None) -> None:
        self.shards: dict[str, int] = {}
        self.done = 0
        self._index = HashedIndex(self._of(rows, digest), 9)
        self._shards = list(self.shards)

    def __len__(self) -> int:
        return len(self._index)

    def count(self, keys: NDArray[np.bytes_]) -> int:
        """Return how many of these names (hashed_index.hashed) have a row."""
        return self._index.count(keys)

    def get(self, name: str) -> PriorResult | None:
        """Return the state of an image, or None if it has no row."""
        found = self._index.get(name)
        if found is None:
            return None
        done, attempt, source_bytes, size, mtime_ns, source_mtime_ns, hashed, digest, shard = found
        return PriorResult(
            bool(done),
            attempt,
            None if source_bytes < 0 else source_bytes,
            None if size < 0 or mtime_ns < 0 else Stamp(size, mtime_ns),
            None if shard < 0 else self._shards[shard],
            None if source_mtime_ns < 0 else source_mtime_ns,
            digest if hashed else None,
        )

    def _of(self, rows: pa.Table, digest: str | None) -> Iterator[tuple[str, tuple[int, ...]]]:
        for batch in rows.to_batches(max_chunksize=_BATCH):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                name, status, of, shard, attempt, *numbers, digest_of_source = values
                done = status == "done" and digest in (None, of)
                self.done += done
                place = -1 if shard is None else self.shards.setdefault(shard, len(self.shards))
                hashed = (digest_of_source is not None, digest_of_source or 0)
                known = (-1 if number is None else number for number in numbers)
                yield name, (done, attempt, *known, *hashed, place)
