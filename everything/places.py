"""Where photos and results can be: folders on disk, and URLs of the few schemes that are meant."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from everything.errors import EverythingError, InputError
from everything.names import shown

# What lists and tells sizes. fsspec knows more (shells, archives in archives, hosts by ssh); none
# of them is what anybody means by the place of a photo.
STORES = ("s3", "gs", "gcs", "az", "abfs", "memory")
SCHEMES = (*STORES, "http", "https")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_TRIES, _FIRST_WAIT = 4, 0.5
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
        raise InputError(f"{shown(text)}: not a place for photos or results: use {known}")
    return Url(text.rstrip("/"))


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
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        package = _PACKAGES.get(scheme, "aiohttp")
        raise InputError(f"{scheme}://: needs {package}: pip install {package}") from error


def patiently(attempt: Callable[[], _Result]) -> _Result:
    """Return what `attempt` returns; errors of a network are waited out, seconds at most.

    Raises OSError: at once if nothing is there or it may not be read.
    """
    for tries in range(1, _TRIES + 1):
        try:
            return attempt()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise
        except EverythingError:
            raise
        except Exception as error:
            # What clients of stores raise is an open set; all of it is about the connection.
            if tries == _TRIES:
                raise OSError(0, f"{type(error).__name__}: {error}") from error
        time.sleep(_FIRST_WAIT * 2 ** (tries - 1))
    raise AssertionError
