"""Errors that users can resolve: one line with the file, the reason and what to do."""

from __future__ import annotations


class EverythingError(Exception):
    """Base of all errors that are shown to users without a traceback.

    Example:
        >>> try:
        ...     load("no-such-variant")
        ... except EverythingError as error:
        ...     print(type(error).__name__)
        ConfigError
    """


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


def reason_of(error: BaseException) -> str:
    """Return the message of an error on one line, or its class name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
