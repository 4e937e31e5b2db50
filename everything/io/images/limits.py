"""Limits of what is read, and the refusal of what is over them."""

from __future__ import annotations

from dataclasses import dataclass

ANOTHER_COPY = "get another copy of it"


@dataclass(frozen=True)
class Limits:
    """Limits of an image.

    Attributes:
        max_pixels: Width times height, px; checked before decoding.
        max_bytes: Size of its file.
        max_seconds: Time of work on it; None for no limit.
    """

    max_pixels: int = 300_000_000
    max_bytes: int = 2 * 2**30
    max_seconds: float | None = None


class Refused(Exception):
    """Reason and way out of an image that will not be decoded; its name is known further up."""


def check_size(width: int, height: int, limits: Limits) -> None:
    """Check the size in an image's header, px, before memory is spent on it.

    Raises:
        Refused: It has no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise Refused(f"it has no pixels ({width} x {height})", ANOTHER_COPY)
    if width * height > limits.max_pixels:
        size = f"{width} x {height} px are over the limit of {limits.max_pixels:,} px"
        raise Refused(size, "make it smaller, cut it into tiles, or raise reading.max_pixels")
