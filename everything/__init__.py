"""Segment everything, in bulk: every object's mask of every photo, with any SAM variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everything.pipeline.pipeline import segment
    from everything.recipes.build import load

__all__ = ["load", "segment"]

_HOMES = {"load": "everything.recipes.build", "segment": "everything.pipeline.pipeline"}


def __getattr__(name: str) -> Any:
    """Import `load` and `segment` when they are first asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
