"""The bytes of an image, from a disk, an object store, the web, or the middle of an archive."""

from __future__ import annotations

from pathlib import Path

from everything.core.file_names import is_inside, printable
from everything.errors import ImageError
from everything.io.images.archives import (
    ARCHIVES,
    NO_FILE,
    NOT_A_FILE,
    is_zip,
    read_zip_member,
    why_not_listed,
)
from everything.io.images.decode import Limits, read_file
from everything.io.images.sources import Source
from everything.io.storage.locations import Url, filesystem, with_retries


def read_source(source: Source, limits: Limits) -> bytes:
    """Return the content of an image's file.

    Raises:
        ImageError: It cannot be read, or is over a limit.
    """
    if not is_inside(source.name):
        raise ImageError(
            f"{printable(source.name)}: its name leads out of the results folder: rename it"
        )
    place = source.location
    if source.start is None and place.name.lower().endswith(ARCHIVES):
        raise ImageError(f"{source.printable}: {why_not_listed(place)}")
    if source.start == NOT_A_FILE:
        raise ImageError(f"{source.printable}: {NO_FILE}")
    if source.start is None and isinstance(place, Path):
        return read_file(place, limits)
    try:
        if source.start is not None:
            size = _checked(source.size, source, limits)
            if is_zip(place):
                return read_zip_member(place, source.start, limits.max_bytes)
            return _part(place, source.start, size)
        assert isinstance(place, Url)
        return _whole(place, source, limits)
    except OSError as error:
        reason = printable(" ".join((error.strerror or str(error)).split()).lower() or "not found")
        raise ImageError(
            f"{source.printable}: {reason}: check that it is there and may be read"
        ) from error


def _whole(url: Url, source: Source, limits: Limits) -> bytes:
    files, path = filesystem(url)
    size = source.size
    if size is None:
        size = with_retries(lambda: files.info(path)).get("size")
    _checked(size, source, limits)
    content: bytes = with_retries(lambda: files.cat_file(path))
    _checked(len(content), source, limits)
    return content


def _part(place: Path | Url, start: int, size: int) -> bytes:
    if isinstance(place, Url):
        files, path = filesystem(place)
        if size == 0:
            return b""
        content: bytes = with_retries(lambda: files.cat_file(path, start=start, end=start + size))
        return content
    with place.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _checked(size: int | None, source: Source, limits: Limits) -> int:
    if size is not None and size > limits.max_bytes:
        reason = f"{size:,} bytes are over the limit of {limits.max_bytes:,}"
        raise ImageError(f"{source.printable}: {reason}: cut it into tiles")
    return size or 0
