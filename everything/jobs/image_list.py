"""The images of a job: listed once, in little memory, and compared with earlier results."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import numpy as np
import pyarrow as pa

from everything.core.file_names import as_text, printable
from everything.errors import InputError, without_secrets
from everything.io.images.sources import Source
from everything.io.storage.hashed_index import HashedIndex, hashed
from everything.io.storage.locations import Url, filesystem, located, with_retries

_CHUNK = 4096
_LOOKED_AT = 20  # earlier images whose content, or whose existence in a bucket, is checked
_log = logging.getLogger(__name__)


class ImageList:
    """The images of a job, in the order of their listing; about 40 bytes for each.

    Listing can take long, and two listings can differ, so sources are kept (compressed). An image
    whose name was listed before is left out: its result would replace the other one's.

    Args:
        sources: The listing; consumed.

    Attributes:
        keys: The hashed name of each image.
        left_out: The number of images left out.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        pending, chunks, keys = iter(sources), list[bytes](), bytearray()
        while chunk := list(islice(pending, _CHUNK)):
            keys += hashed(as_text(source.name) for source in chunk).tobytes()
            chunks.append(zlib.compress(json.dumps(chunk).encode("ascii"), 1))
        self._chunks = chunks
        listed = np.frombuffer(keys, hashed(()).dtype)
        self.keys, first = np.unique(listed, return_index=True)
        self.left_out = len(listed) - len(first)
        self._kept = None if self.left_out == 0 else set(first.tolist())

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Source]:
        for position, source in enumerate(self._all()):
            if self._kept is None or position in self._kept:
                yield source

    def warn(self) -> None:
        """Log how many images are left out, and the first of them."""
        if self._kept is not None:
            kept = self._kept
            lost = next(source for at, source in enumerate(self._all()) if at not in kept)
            _log.warning(
                "%d of the images have the name of another one and are left out (first: %s): "
                "label them into another --out",
                self.left_out, lost.printable,
            )  # fmt: skip

    def _all(self) -> Iterator[Source]:
        for chunk in self._chunks:
            yield from (Source(*row) for row in json.loads(zlib.decompress(chunk)))


def check_earlier_images(images: Iterable[Source], earlier: pa.Table) -> None:
    """Compare a job's images with those that have rows in its results folder.

    An image that was labelled under another name, from another folder, is labelled again; how many
    there are is logged. A folder that was moved or copied has the same names and is no problem.

    Args:
        images: The job's images.
        earlier: Columns name, folder, file and start of the manifest.

    Raises:
        InputError: A result of another image, which still exists, has the name of an image of this
            job and would be replaced.
    """
    places = [*map(_place, _rows(earlier))]
    by_name = HashedIndex(((name, (row,)) for row, name in enumerate(_names(earlier))), 1)
    by_place = HashedIndex(((place, (row,)) for row, place in enumerate(places)), 1)
    again, looked_at, example = 0, 0, ""
    for source in images:
        place = _place(source)
        same_place = by_place.get(place)
        if same_place is not None:
            name = earlier["name"][same_place[0]].as_py()
            if name != as_text(source.name):
                again, example = again + 1, example or f"{source.printable} as {name}"
            continue
        same_name = by_name.get(as_text(source.name))
        if same_name is None or looked_at == _LOOKED_AT:
            continue
        other = places[same_name[0]]
        looked_at += 1
        if _is_another(other, place):
            raise InputError(
                f"{source.printable}: the results of another image, {printable(other)}, have the "
                "same name: give another --out, or label both folders in one command"
            )
    if again:
        _log.warning(
            "%d images were labelled before under another name, from another folder, and count "
            "twice (first: %s)", again, printable(example),
        )  # fmt: skip


def _names(rows: pa.Table) -> Iterator[str]:
    for batch in rows.to_batches(max_chunksize=_CHUNK):
        yield from batch["name"].to_pylist()


def _rows(table: pa.Table) -> Iterator[Source]:
    for batch in table.to_batches(max_chunksize=_CHUNK):
        for row in batch.to_pylist():
            yield Source(row["folder"] or "", row["name"], None, row["file"], row["start"])


def _place(source: Source) -> str:
    """Where an image is, as text; of one in an archive, its name is part of it."""
    if source.start is not None:
        return as_text(without_secrets(source.file or "") + source.name)
    where = source.file or os.path.join(source.folder, source.name)  # noqa: PTH118
    return as_text(without_secrets(where))


def _is_another(earlier: str, place: str) -> bool:
    """Whether an image of an earlier job still exists and is not the same as one of this job."""
    with suppress(OSError, InputError):
        first, second = located(earlier), located(place)
        if isinstance(first, Url):
            files, path = filesystem(first)
            return bool(with_retries(lambda: files.exists(path)))
        if first.is_file():
            return isinstance(second, Url) or not filecmp.cmp(first, second, shallow=False)
    return False
