"""Files of weights on this machine, brought once however many processes want them at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from everything.core.file_names import printable
from everything.errors import WeightsError
from everything.io.storage.locations import Url, filesystem, located, with_retries
from everything.variants.checkpoints.download import looks_like_weights, temporary

# What stores call the things by which a file is known not to have changed.
_MARKS = ("size", "ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified",
          "mtime", "updated", "created")  # fmt: skip
_log = logging.getLogger(__name__)


def staged(checkpoint: str, digest: str = "") -> Path:
    """Return the file of a checkpoint: itself, or of a URL its copy in torch.hub's cache.

    The copy is made once for all processes of the machine; one that has changed at its place is
    another one. digest: the SHA-256 that the copy must have, "" if that is not known yet. Raises
    WeightsError, and InputError for a URL of another scheme.
    """
    place = located(checkpoint)
    if isinstance(place, Path):
        return place
    try:
        copy = _cache() / _mark(place) / place.name
        with alone(copy):
            if not copy.exists():
                _bring(place, copy)
            if digest:
                check(copy, digest, place)
        return copy
    except OSError as error:
        reason = printable(" ".join((error.strerror or str(error)).split())) or "not found"
        raise WeightsError(
            f"{printable(place)}: cannot be fetched ({reason}): see that it is there, or copy it "
            "to every machine and name that with --checkpoint"
        ) from error


def check(file: Path, digest: str, source: str) -> None:
    """Hash a file unless that was done since it was last written: it may be somebody's own.

    Raises WeightsError if it is not the one with this SHA-256.
    """
    state, stamp = file.stat(), file.with_name(file.name + ".checked")
    seen = {"sha256": digest, "bytes": state.st_size, "written": state.st_mtime_ns}
    if _read(stamp) == seen:
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != digest:
        raise WeightsError(
            f"{file}: not the file of {source}: its SHA-256 is {found}, not {digest}: remove it, "
            "or name it with --checkpoint if you trust it"
        )
    with suppress(OSError):  # a cache that cannot be written is hashed each time
        stamp.write_text(json.dumps(seen), encoding="utf-8")


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Keep other processes of this machine waiting that want to bring the same file."""
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
            # Some network storage has no locks: the file is then brought twice, and whole.
            _log.warning("%s: cannot be locked (%s)", printable(lock), error.strerror)
        yield


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / "staged"


def _mark(place: Url) -> str:
    files, path = filesystem(place)
    about = with_retries(lambda: files.info(path))
    marks = {name: str(about[name]) for name in _MARKS if about.get(name) is not None}
    return hashlib.sha256(f"{place} {json.dumps(marks)}".encode()).hexdigest()[:32]


def _bring(place: Url, to: Path) -> None:
    files, path = filesystem(place)
    with temporary(to) as part:
        with_retries(lambda: files.get_file(path, str(part)))
        if not looks_like_weights(part, to.suffix):
            raise WeightsError(f"{printable(place)}: is no checkpoint: give another --checkpoint")
        part.replace(to)


def _read(stamp: Path) -> Any:
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
