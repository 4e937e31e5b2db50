"""Segment everything, in bulk: every object's mask of every photo, with any SAM variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everything.loading import load
    from everything.pipeline import segment

__all__ = ["load", "segment"]

_HOMES = {"load": "everything.loading", "segment": "everything.pipeline"}


def __getattr__(name: str) -> Any:
    """Import `load` and `segment` when they are first asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
