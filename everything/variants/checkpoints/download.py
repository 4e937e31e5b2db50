"""Downloads that appear under their name only when they are complete and checked."""

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

from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from everything.core.console import progress_console, stop_spinner
from everything.errors import WeightsError

_log = logging.getLogger(__name__)
CHUNK = 2**20  # bytes
TIMEOUT = 60  # seconds without a byte
_MAGIC = (b"PK\3\4", b"\x80")  # PyTorch's archives, and the pickles that it wrote before 1.6


class OnlySecure(HTTPRedirectHandler):
    """Follows redirections from https only to https; raises WeightsError for others."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Return the request for a redirection."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise WeightsError(
                f"{req.full_url}: redirects to {newurl}, which is not secure: nothing was kept; "
                f"give a file that you trust with --checkpoint"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, to: Path, sha256: str = "") -> None:
    """Download a file atomically, with a progress bar.

    Args:
        url: Where it is. From a .zip archive, the file with the name of `to` is unpacked.
        to: Where to write it.
        sha256: Of the file at the URL; "" if unknown.

    Raises:
        WeightsError: It cannot be downloaded or written, is incomplete, or is another file.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with temporary(to) as part:
            found = _download(url, part)
            if sha256 and found != sha256:
                raise WeightsError(
                    f"{url}: its SHA-256 is {found}, expected {sha256}: nothing was kept; try "
                    f"again, or give a file that you trust with --checkpoint"
                )
            if url.endswith(".zip"):
                with temporary(to) as inner:
                    _unpack(part, url, inner, to.name)
                    inner.replace(part)
            if not looks_like_weights(part, to.suffix):
                raise WeightsError(
                    f"{url}: not a checkpoint, but another page or file: nothing was kept; "
                    f"give a file with --checkpoint"
                )
            part.replace(to)
        if not sha256:
            _log.warning(
                "%s: not checked, because no SHA-256 is published; the downloaded file has %s, "
                "which is recorded in every recipe: compare it with another source",
                url,
                found,
            )
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", "") or error
        if isinstance(error, HTTPError):  # is the answer, with its connection
            error.close()
        raise WeightsError(
            f"{url}: cannot be fetched ({reason}): copy it to {to}, give a file with "
            f"--checkpoint, or use --variant ucm, which needs no download"
        ) from error
    except OSError as error:
        raise WeightsError(f"{to}: cannot be written ({error.strerror})") from error


def looks_like_weights(path: Path, suffix: str) -> bool:
    """Return whether a file begins as a checkpoint and, if it is an archive, is complete.

    Args:
        path: The file.
        suffix: Suffix of its final name.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if suffix == ".safetensors":
        return len(start) == 8 and 0 < int.from_bytes(start, "little") < path.stat().st_size
    return start.startswith(_MAGIC) and (start[:1] != b"P" or zipfile.is_zipfile(path))


def _download(url: str, to: Path) -> str:
    """Download a URL and return the SHA-256; raises URLError if it is incomplete."""
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
    stop_spinner()
    columns: list[Any] = ["{task.description}", BarColumn(), DownloadColumn()]
    return Progress(*columns, TransferSpeedColumn(), console=progress_console())


def _unpack(archive: Path, url: str, to: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(archive) as inside:
            named = [n for n in inside.namelist() if n.rsplit("/", 1)[-1] == name]
            if not named:
                raise WeightsError(f"{url}: the archive has no {name}")
            with inside.open(named[0]) as packed, to.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{url}: not a readable archive ({error})") from error


@contextmanager
def temporary(beside: Path) -> Iterator[Path]:
    """A temporary name beside a file, unique to this process; removed at the end."""
    path = beside.with_name(f"{beside.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
