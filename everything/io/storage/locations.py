"""Where photos and results can be: folders on disk, and URLs of the few schemes that are meant."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from everything.core.file_names import printable
from everything.errors import EverythingError, InputError

# What lists and tells sizes. fsspec knows more (shells, archives in archives, hosts by ssh); none
# of them is what anybody means by the place of a photo.
STORES = ("s3", "gs", "gcs", "az", "abfs", "memory")
SCHEMES = (*STORES, "http", "https")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
# A bad minute of a store is waited out: 61 s in seven tries. One that takes connections and says
# nothing is given up after seven times _SILENCE, seconds, besides.
_TRIES, _FIRST_WAIT, _LONGEST_WAIT, _SILENCE = 7, 1.0, 30.0, 20.0
# What clients raise before they have asked anybody.
_HOPELESS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError",
             "ProfileNotFound", "ParamValidationError"}  # fmt: skip
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Url(str):
    """The place of a file or folder that is not on this machine's disks, without a `/` at its end.

    It is joined with "/" as a Path is.
    """

    __slots__ = ()

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self}/{name}")

    @property
    def name(self) -> str:
        """Its last part."""
        return self.rsplit("/", 1)[-1]

    @property
    def parent(self) -> Url:
        """What it lies in."""
        return Url(self.rsplit("/", 1)[0])


Location = Path | Url


def located(text: str | Path) -> Location:
    """Return the place that a text means; raises InputError for a URL of another scheme."""
    text = str(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme == "file":
        return Path(rest)
    if scheme not in SCHEMES or "::" in text:
        known = ", ".join(f"{name}://" for name in ("file", *SCHEMES))
        raise InputError(f"{printable(text)}: not a place for photos or results: use {known}")
    return Url(text.rstrip("/"))


def is_file(path: Path) -> bool:
    """Say whether a file is there, also of names that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def filesystem(url: Url) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it; raises InputError."""
    scheme = url.partition("://")[0]
    files = _filesystem(scheme, os.getpid())
    return files, str(files._strip_protocol(str(url)))


@cache
def _filesystem(scheme: str, process: int) -> Any:
    """One for each process: their connections and threads do not survive a fork."""
    import fsspec

    try:
        options = _options(scheme)
        files = fsspec.filesystem(
            scheme, use_listings_cache=False, skip_instance_cache=True, **options
        )
    except ImportError as error:
        package = _PACKAGES.get(scheme, "aiohttp")
        raise InputError(f"{scheme}://: needs {package}: pip install {package}") from error
    if scheme == "s3":
        files.retries = 1
    return files


def _options(scheme: str) -> dict[str, Any]:
    """Time-outs, and no tries of a client's own besides those of `patiently`: three times five
    tries of a minute each are an hour."""
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
    """Return a file to be read in parts, each of which is waited for; raises OSError."""
    files, path = filesystem(url)
    file: Any = with_retries(lambda: files.open(path, "rb", **options))
    if (cache := getattr(file, "cache", None)) is not None:
        fetch = cache.fetcher
        cache.fetcher = lambda *span: with_retries(lambda: fetch(*span))
    opened: IO[bytes] = file
    return opened


def with_retries(attempt: Callable[[], _Result]) -> _Result:
    """Return what `attempt` returns; errors of a network are waited out, a minute at most.

    Raises OSError: at once if nothing is there or it may not be read.
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
            # What clients of stores raise is an open set; the rest is about the connection.
            reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))
            if tries == _TRIES or _HOPELESS & {kind.__name__ for kind in type(error).__mro__}:
                raise OSError(0, reason) from error
            _log.warning("%s: tried again in %.1f s", reason, wait)
        # Not all workers at the same moment.
        time.sleep(wait * random.uniform(0.75, 1))
        wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError


def home_of(out: str) -> Any:
    """Return where results go: a path that every machine of a cluster sees alike, or a URL."""
    from everything.io.storage.locations import located

    place = located(out)
    return place.absolute() if isinstance(place, Path) else place
