"""Weights on this machine: downloaded once, however many processes need them at the same time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from everything.core.file_names import printable
from everything.errors import WeightsError
from everything.io.storage.locations import Url, filesystem, located, with_retries
from everything.variants.checkpoints.download import looks_like_weights, temporary

# Metadata that changes when a file does, under the names that different storages use.
_VERSION_KEYS = ("size", "ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified",
          "mtime", "updated", "created")  # fmt: skip
_log = logging.getLogger(__name__)


def staged(checkpoint: str, digest: str = "") -> Path:
    """Return the local file of a checkpoint: the path itself, or a URL's copy in torch.hub's cache.

    A URL is copied once per machine, and again if its file has changed.

    Args:
        checkpoint: A path or URL.
        digest: The SHA-256 that the copy must have; "" if it is not known yet.

    Raises:
        WeightsError: The file cannot be fetched or has another SHA-256.
        InputError: The URL's scheme is not supported.
    """
    place = located(checkpoint)
    if isinstance(place, Path):
        return place
    try:
        copy = _cache() / _version(place) / place.name
        with locked(copy):
            if not copy.exists():
                _fetch(place, copy)
            if digest:
                check(copy, digest, place)
        return copy
    except OSError as error:
        reason = printable(" ".join((error.strerror or str(error)).split())) or "not found"
        raise WeightsError(
            f"{printable(place)}: cannot be fetched ({reason}): check the URL, or copy the file "
            "to every machine and give its path with --checkpoint"
        ) from error


def check(file: Path, digest: str, source: str) -> None:
    """Check a file's SHA-256, unless it was checked since it was last written.

    Raises:
        WeightsError: The file has another SHA-256.
    """
    state, stamp = file.stat(), file.with_name(file.name + ".checked")
    seen = {"sha256": digest, "bytes": state.st_size, "written": state.st_mtime_ns}
    if _read(stamp) == seen:
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != digest:
        raise WeightsError(
            f"{file}: its SHA-256 is {found}, that of {source} is {digest}: remove the file "
            "to download it again, or give it as --checkpoint if you trust it"
        )
    with suppress(OSError):  # in a read-only cache it is hashed each time
        stamp.write_text(json.dumps(seen), encoding="utf-8")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Let one process of this machine at a time fetch a file."""
    lock = file.with_name(file.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("ab")
    except OSError as error:
        raise WeightsError(f"{file}: cannot be written ({error.strerror})") from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems have no locks: two processes may then both download it.
            _log.warning("%s: cannot be locked (%s)", printable(lock), error.strerror)
        yield


def hub_cache() -> Path:
    """Return the folder of torch.hub's cache for checkpoints."""
    import torch  # takes seconds, which who only asks for names need not wait

    return Path(torch.hub.get_dir()) / "checkpoints"


def _cache() -> Path:
    return hub_cache() / "staged"


def _version(place: Url) -> str:
    files, path = filesystem(place)
    about = with_retries(lambda: files.info(path))
    metadata = {name: str(about[name]) for name in _VERSION_KEYS if about.get(name) is not None}
    return hashlib.sha256(f"{place} {json.dumps(metadata)}".encode()).hexdigest()[:32]


def _fetch(place: Url, to: Path) -> None:
    files, path = filesystem(place)
    with temporary(to) as part:
        with_retries(lambda: files.get_file(path, str(part)))
        if not looks_like_weights(part, to.suffix):
            raise WeightsError(f"{printable(place)}: not a checkpoint: give another --checkpoint")
        part.replace(to)


def _read(stamp: Path) -> Any:
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
