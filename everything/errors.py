"""Errors that users can resolve: one line with the file, the reason and what to do."""

from __future__ import annotations

import re

AS_UTF_8 = "save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
"""The way out for text in the encoding of older Windows programs, or in Latin-1."""

_URL = re.compile(
    r"""(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)
    (?:(?P<user>[^\s/?#'"<>]*)@)?
    (?P<rest>[^\s?#'"<>]*)
    (?P<query>[?#][^\s'"<>]*?)?
    (?=[,:;.)\]]*(?:[\s'"<>]|$))""",
    re.VERBOSE,
)


class EverythingError(Exception):
    """Base of all errors that are shown to users without a traceback.

    Example:
        >>> try:
        ...     load("no-such-variant")
        ... except EverythingError as error:
        ...     print(type(error).__name__)
        ConfigError
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(a) if isinstance(a, str) else a for a in args))


class ConfigError(EverythingError):
    """A setting is unknown or out of range."""


class WeightsError(EverythingError):
    """Weights cannot be downloaded or read, or do not fit the variant."""


class ImageError(EverythingError):
    """An image cannot be read or exceeds a limit."""


class StoreError(EverythingError):
    """Results cannot be written, or the folder has results of another recipe."""


class InputError(EverythingError):
    """An input does not exist or has no images."""


class JobError(EverythingError):
    """A job cannot continue, whatever the image."""


def without_secrets(text: str) -> str:
    """Return a text whose URLs have no user, password, query or fragment.

    These can hold secrets (presigned URLs, tokens), so they are neither written nor shown. A query
    is one in http(s) URLs alone; elsewhere "?" and "#" can be part of a name, and a user without a
    password part of an address (abfs://container@account).
    """
    return _URL.sub(_shown, text) if "://" in text else text


def _shown(url: re.Match[str]) -> str:
    user, query = url["user"] or "", url["query"] or ""
    if url["scheme"].lower().startswith("http"):
        user = query = ""
    is_secret = not user or ":" in user
    return f"{url['scheme']}{'' if is_secret else f'{user}@'}{url['rest']}{query}"


def reason_of(error: BaseException) -> str:
    """Return the message of an error on one line, or its class name if it has none."""
    if isinstance(error, UnicodeDecodeError) and error.encoding == "utf-8":
        return f"its byte {error.start:,} is not UTF-8: {AS_UTF_8}"
    return " ".join(str(error).split()) or type(error).__name__
