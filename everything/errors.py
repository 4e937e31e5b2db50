"""Errors that a user can do something about: one line with the file, the reason, the way out."""

from __future__ import annotations


class EverythingError(Exception):
    """Base of all errors that are shown to users without a traceback."""


class ConfigError(EverythingError):
    """A setting is unknown or out of its limits."""


class WeightsError(EverythingError):
    """Weights cannot be had, read, or are not those of the variant."""


class ImageError(EverythingError):
    """A photo cannot be read or is beyond a limit."""


class StoreError(EverythingError):
    """Results cannot be written, or the folder holds results of another recipe."""


class InputError(EverythingError):
    """An input does not exist or has no photos."""


class JobError(EverythingError):
    """A job cannot go on, whatever the photo."""


def reason_of(error: BaseException) -> str:
    """Return the text of an error on one line, or its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
