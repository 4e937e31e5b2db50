"""Downloads: whole, checked, and in their place only then."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from everything.errors import WeightsError

_log = logging.getLogger(__name__)
CHUNK = 2**20  # bytes
TIMEOUT = 60  # seconds without a byte
_KINDS = (b"PK\3\4", b"\x80")  # of PyTorch's archives, and of the pickles that it wrote before


class OnlySecure(HTTPRedirectHandler):
    """Follows a redirection of https to https alone; raises WeightsError for others."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Return the request of a redirection."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise WeightsError(
                f"{req.full_url}: leads to {newurl}, which nobody vouches for: nothing was kept; "
                f"name a file that you trust with --checkpoint"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, to: Path, sha256: str = "") -> None:
    """Download a file to `to`, with a progress bar, through another name beside it, so that there
    is never half a file under its own.

    sha256: of what is at the URL, "" if unknown. An archive (.zip) is unpacked: the file in it
    that has the name of `to`. Raises WeightsError if it cannot be fetched or written, ends early,
    or is not the file expected.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with temporary(to) as part:
            found = _download(url, part)
            if sha256 and found != sha256:
                raise WeightsError(
                    f"{url}: not the file expected: its SHA-256 is {found}, not {sha256}: nothing "
                    f"was kept; try again, or name a file that you trust with --checkpoint"
                )
            if url.endswith(".zip"):
                with temporary(to) as inner:
                    _unpack(part, url, inner, to.name)
                    inner.replace(part)
            if not looks_like_weights(part, to.suffix):
                raise WeightsError(
                    f"{url}: no checkpoint came from there, but another page or file: nothing was "
                    f"kept; name a file with --checkpoint"
                )
            part.replace(to)
        if not sha256:
            _log.warning(
                "%s: nobody has published its SHA-256, so it could not be checked; that of what "
                "came is %s, which every recipe keeps: compare it with another source",
                url,
                found,
            )
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", "") or error
        if isinstance(error, HTTPError):  # is the answer, with its connection
            error.close()
        raise WeightsError(
            f"{url}: cannot be fetched ({reason}): copy it to {to}, name a file with "
            f"--checkpoint, or use --variant ucm, which needs no download"
        ) from error
    except OSError as error:
        raise WeightsError(f"{to}: cannot be written ({error.strerror})") from error


def looks_like_weights(path: Path, suffix: str) -> bool:
    """Return whether a file begins, and if it is an archive also ends, as checkpoints do.

    suffix: of the name that it is to have.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if suffix == ".safetensors":
        return len(start) == 8 and 0 < int.from_bytes(start, "little") < path.stat().st_size
    return start.startswith(_KINDS) and (start[:1] != b"P" or zipfile.is_zipfile(path))


def _download(url: str, to: Path) -> str:
    """Write what is at a URL; return its SHA-256. Raises URLError if it ends early."""
    digest, got = hashlib.sha256(), 0
    request = Request(url, headers={"User-Agent": "everything"})
    opener = build_opener(OnlySecure)
    with opener.open(request, timeout=TIMEOUT) as answer, to.open("wb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        with _bar() as progress:
            task = progress.add_task(url.rsplit("/", 1)[-1], total=total)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                got += len(chunk)
                progress.advance(task, len(chunk))
    if total is not None and got != total:
        raise URLError(f"the connection ended after {got} of {total} bytes")
    return digest.hexdigest()


def _bar() -> Progress:
    columns: list[Any] = ["{task.description}", BarColumn(), DownloadColumn()]
    return Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True))


def _unpack(archive: Path, url: str, to: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(archive) as inside:
            named = [n for n in inside.namelist() if n.rsplit("/", 1)[-1] == name]
            if not named:
                raise WeightsError(f"{url}: has no {name} in it")
            with inside.open(named[0]) as packed, to.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{url}: not a readable archive ({error})") from error


@contextmanager
def temporary(beside: Path) -> Iterator[Path]:
    """A name beside a file, for this process alone; what is left under it is removed."""
    path = beside.with_name(f"{beside.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
