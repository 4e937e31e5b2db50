"""Locations of images and results: folders on disk, and URLs of the supported schemes."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote_to_bytes

from everything.core.file_names import printable
from everything.errors import EverythingError, InputError, reason_of

# Stores that can be listed. fsspec supports more (shells, nested archives, hosts by SSH), but
# nobody means those as the location of images.
STORES = ("s3", "gs", "gcs", "az", "abfs", "memory")
SCHEMES = (*STORES, "http", "https")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
# Transient storage errors are retried: seven tries in 61 s. A store that accepts connections but
# does not answer costs seven times _SILENCE (seconds) on top.
_TRIES, _FIRST_WAIT, _LONGEST_WAIT, _SILENCE = 7, 1.0, 30.0, 20.0
# Raised by clients before any request; a retry would not help.
_HOPELESS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError",
             "ProfileNotFound", "ParamValidationError"}  # fmt: skip
_WEB = ("http://", "https://")
_QUERY = re.compile("[?#]")
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Url(str):
    """The URL of a remote file or folder, without a trailing `/`; joined with "/" like a Path."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self}/{name}")

    @property
    def without_query(self) -> str:
        """The URL up to the query or fragment of http; other stores may have both in names."""
        return _QUERY.split(self, maxsplit=1)[0] if self.startswith(_WEB) else str(self)

    @property
    def name(self) -> str:
        """The last part of the path, without a query."""
        return self.without_query.rsplit("/", 1)[-1]

    @property
    def parent(self) -> Url:
        """The URL without the last part of its path, and without a query."""
        return Url(self.without_query.rsplit("/", 1)[0])


Location = Path | Url


def located(text: str | Path) -> Location:
    """Return the location that a text denotes: a path, `file://` included, or a URL.

    Raises:
        InputError: It is a URL of an unsupported scheme, or one without a bucket or host.
    """
    text = str(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme == "file":
        return _path_of(rest)
    if scheme not in SCHEMES or "::" in Url(text).without_query:
        known = ", ".join(f"{name}://" for name in ("file", *SCHEMES))
        raise InputError(
            f"{printable(text)}: images and results cannot be stored there: use {known}"
        )
    if not rest.strip("/"):
        raise InputError(f"{printable(text)}: no bucket or host in it: give {scheme}://NAME/FOLDER")
    url = Url(text)
    return url if url.without_query != text else Url(text.rstrip("/"))


def _path_of(rest: str) -> Path:
    """The path in a file URI, whose escapes are those of Path.as_uri; without any where only a file
    with that very name exists."""
    written = Path(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
    if "%" not in rest:
        return written
    # As bytes: escapes of names that are not UTF-8.
    path = Path(os.fsdecode(unquote_to_bytes(os.fsencode(written))))
    return written if not os.path.lexists(path) and os.path.lexists(written) else path


def is_file(path: Path) -> bool:
    """Tell whether a file exists; False for names that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def filesystem(url: Url) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it.

    Raises:
        InputError: The package for its scheme is not installed.
    """
    scheme = url.partition("://")[0]
    files = _filesystem(scheme, os.getpid())
    return files, str(files._strip_protocol(str(url)))


@cache
def _filesystem(scheme: str, process: int) -> Any:
    """One file system per process: connections and threads do not survive a fork."""
    import fsspec

    try:
        options = _options(scheme)
        files = fsspec.filesystem(
            scheme, use_listings_cache=False, skip_instance_cache=True, **options
        )
    except ImportError as error:
        package = _PACKAGES.get(scheme, "aiohttp")
        raise InputError(
            f"{scheme}://: the package {package} is not installed: pip install {package}"
        ) from error
    if scheme == "s3":
        files.retries = 1
    return files


def _options(scheme: str) -> dict[str, Any]:
    """Timeouts, and no retries by the client itself.

    Multiplied with those of `with_retries`, they would take an hour.
    """
    if scheme == "s3":
        once = {"total_max_attempts": 1}
        waits = {"connect_timeout": _SILENCE, "read_timeout": _SILENCE}
        return {"config_kwargs": {"retries": once, **waits}}
    if scheme.startswith("http"):
        import aiohttp

        waits = {"sock_connect": _SILENCE, "sock_read": _SILENCE}
        return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, **waits)}}
    return {}


def opened(url: Url, **options: Any) -> IO[bytes]:
    """Open a remote file for reading in parts; each read is retried on transient errors.

    Raises:
        OSError: It cannot be read.
    """
    files, path = filesystem(url)
    file: Any = with_retries(lambda: files.open(path, "rb", **options))
    if (cache := getattr(file, "cache", None)) is not None:
        fetch = cache.fetcher
        cache.fetcher = lambda *span: with_retries(lambda: fetch(*span))
    opened: IO[bytes] = file
    return opened


def with_retries(attempt: Callable[[], _Result]) -> _Result:
    """Return the result of `attempt`, which is retried on network errors for about a minute.

    Raises:
        OSError: The last attempt failed; at once if the file does not exist or access is denied.
    """
    wait = _FIRST_WAIT
    for tries in range(1, _TRIES + 1):
        try:
            return attempt()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise
        except EverythingError:
            raise
        except Exception as error:
            # Clients of stores raise errors of many types; those left are about the connection.
            reason = printable(f"{type(error).__name__}: {reason_of(error)}")
            if tries == _TRIES or _HOPELESS & {kind.__name__ for kind in type(error).__mro__}:
                raise OSError(0, reason) from error
            _log.warning("%s: retrying in %.1f s", reason, wait)
        # Jitter, so that workers do not retry at the same moment.
        time.sleep(wait * random.uniform(0.75, 1))
        wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError


def home_of(out: str) -> Any:
    """Return the location of results: an absolute path, the same on every machine, or a URL."""
    place = located(out)
    return place.absolute() if isinstance(place, Path) else place
