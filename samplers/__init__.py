"""SAMPLERS: every way of choosing prompts, by name.

To add one: a file here with a frozen settings class that is called with a Scene, a line below.
Any two are one: "object-aware+grid-32" asks the grid only where no box is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pydantic import create_model


@dataclass(frozen=True)
class SamplerRecord:
    """A sampler's name for users and where its class is.

    where: "module:Class", imported when first used. settings: its own defaults under this name.
    preset: defaults of other groups of the recipe that this sampler changes. source: the paper.
    """

    where: str
    summary: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def load(self) -> type[Any]:
        """Return the sampler's class."""
        module, name = self.where.split(":")
        loaded: type[Any] = getattr(import_module(module), name)
        return loaded


@dataclass(frozen=True)
class _Pair(SamplerRecord):
    """Two samplers as one: see samplers.combined."""

    first: SamplerRecord | None = None
    then: SamplerRecord | None = None

    def load(self) -> type[Any]:
        """Return the class of the pair, whose fields `first` and `then` are the two samplers."""
        parts: dict[str, Any] = {}
        for name, record in (("first", self.first), ("then", self.then)):
            assert record is not None
            part = record.load()
            parts[name] = (part, part(**record.settings))
        return create_model("Combined", __base__=super().load(), **parts)


def pair(first: SamplerRecord, then: SamplerRecord) -> SamplerRecord:
    """Return the record of a sampler that asks `then` where `first` found nothing.

    Neither one's preset applies: what is to be filtered differs between the two.
    """
    return _Pair(
        "everything.samplers.combined:Combined",
        f"{first.summary}; elsewhere {then.summary}",
        f"{first.source}; {then.source}",
        first=first,
        then=then,
    )


def _grid(n: int) -> SamplerRecord:
    return SamplerRecord(
        "everything.samplers.grid:Grid",
        f"a dense grid of {n} x {n} points, three masks each",
        "SAM (Kirillov et al., 2023)",
        {"points_per_side": n},
    )


# Detectors filter by themselves: neither MobileSAMv2 nor FastSAM looks at a mask again.
_KEEP_ALL: dict[str, dict[str, Any]] = {
    "filters": {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
    "nms": {"kind": "none"},
}

SAMPLERS: dict[str, SamplerRecord] = {
    "grid": _grid(32),
    "grid-16": _grid(16),
    "grid-32": _grid(32),
    "grid-64": _grid(64),
    "hierarchical": SamplerRecord(
        "everything.samplers.hierarchical:Hierarchical",
        "a coarse grid, then a fine one where no mask is certain yet",
        "TinySAM (Shu et al., 2023)",
    ),
    "object-aware": SamplerRecord(
        "everything.samplers.object_aware:ObjectAware",
        "boxes from a detector, one mask each; a YOLO as detector is AGPL-3.0",
        "MobileSAMv2 (Zhang et al., 2023)",
        preset=_KEEP_ALL,
    ),
    "auto-ppn": SamplerRecord(
        "everything.samplers.auto_ppn:AutoPpn",
        "points and boxes from a small head on the variant's own feature maps",
        "the idea of Lite-SAM (Fu et al., 2024)",
        # Stability tells masks of objects from those of accidents, which a head does beforehand.
        preset={"filters": {"stability_score_thresh": 0.0}},
    ),
    "all-instance": SamplerRecord(
        "everything.samplers.all_instance:AllInstance",
        "masks from a network without prompts; FastSAM's is AGPL-3.0",
        "FastSAM (Zhao et al., 2023)",
        preset=_KEEP_ALL,
    ),
}
