"""SAMPLERS: the samplers, which choose the prompts, by name.

To add one here: a module with a frozen settings class that is called with a Scene, and a record in
SAMPLERS. To add one from another package: an entry point of the group `everything.samplers` that
names a SamplerRecord (everything/core/plugins.py).

Two samplers can be combined: "object-aware+grid-32" uses the grid only outside the boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pydantic import create_model

from everything.core.plugins import Registry


@dataclass(frozen=True)
class SamplerRecord:
    """Describes a sampler without importing its class.

    Args:
        where: "module:Class" of its settings class, imported when first used.
        summary: What it does, in one line.
        source: The paper.
        settings: Defaults of its own settings under this name.
        preset: Defaults that this sampler changes in other groups of settings.
    """

    where: str
    summary: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def load(self) -> type[Any]:
        """Import and return the sampler's class."""
        module, name = self.where.split(":")
        loaded: type[Any] = getattr(import_module(module), name)
        return loaded


@dataclass(frozen=True)
class _Pair(SamplerRecord):
    """Two samplers combined: see samplers/combined.py."""

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
    """Return the record of a sampler that uses `then` where `first` found nothing.

    Neither preset applies: the two need different filters.
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


# The detector has filtered its objects; MobileSAMv2 and FastSAM do not filter the masks again.
_KEEP_ALL: dict[str, dict[str, Any]] = {
    "filters": {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
    "nms": {"kind": "none"},
}

SAMPLERS = Registry(
    {
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
            "boxes from a detector, one mask each (YOLO detectors: AGPL-3.0)",
            "MobileSAMv2 (Zhang et al., 2023)",
            preset=_KEEP_ALL,
        ),
        "auto-ppn": SamplerRecord(
            "everything.samplers.auto_ppn:AutoPpn",
            "points and boxes from a small head on the variant's own feature maps",
            "the idea of Lite-SAM (Fu et al., 2024)",
            # The head already selects objects, which is the purpose of the stability filter.
            preset={"filters": {"stability_score_thresh": 0.0}},
        ),
        "all-instance": SamplerRecord(
            "everything.samplers.all_instance:AllInstance",
            "masks from an instance segmentation network, no prompts (FastSAM's: AGPL-3.0)",
            "FastSAM (Zhao et al., 2023)",
            preset=_KEEP_ALL,
        ),
        "concepts": SamplerRecord(
            "everything.samplers.concepts:Concepts",
            'all instances of texts such as "person, car", with their names (SAM 3\'s, gated)',
            "SAM 3 (Carion et al., 2025)",
            preset=_KEEP_ALL,
        ),
    },
    "everything.samplers",
    SamplerRecord,
)
