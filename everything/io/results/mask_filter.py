"""Thresholds and levels after the fact: which masks of written results are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from everything.config import Level
from everything.core import rle
from everything.core.mask_hierarchy import at_level
from everything.core.sa1b import Annotation
from everything.errors import ConfigError


@dataclass(frozen=True)
class MaskFilter:
    """Which masks are kept; the level is that among the masks that pass the thresholds.

    Scores that an annotation does not have are 1.

    Attributes:
        level: Whole objects, their parts, or subparts (everything/core/mask_hierarchy.py).
        pred_iou_thresh: Keep masks with a predicted IoU above this; 0 keeps all.
        stability_score_thresh: Keep masks with a stability score of at least this.
        min_mask_area: Keep masks of at least so many px.
        max_mask_area: Keep masks of at most so many px.

    Raises:
        ConfigError: A value is out of its limits.
    """

    level: Level = "all"
    pred_iou_thresh: float = 0.0
    stability_score_thresh: float = 0.0
    min_mask_area: int = 0
    max_mask_area: int | None = None

    def __post_init__(self) -> None:
        for name in ("pred_iou_thresh", "stability_score_thresh"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: give a number from 0 to 1")
        if self.max_mask_area is not None and self.max_mask_area < self.min_mask_area:
            raise ConfigError(
                f"max_mask_area = {self.max_mask_area}: below min_mask_area = {self.min_mask_area}"
            )

    @property
    def keeps_all(self) -> bool:
        """Whether every mask passes."""
        return self == MaskFilter()

    def __call__(self, annotations: Sequence[Annotation]) -> list[Annotation]:
        """Return the annotations that are kept, in their order."""
        if self.keeps_all:
            return list(annotations)
        areas = rle.areas([one["segmentation"] for one in annotations]).tolist()
        kept = [
            one for one, area in zip(annotations, areas, strict=True) if self._passes(one, area)
        ]
        return at_level(kept, self.level)

    def _passes(self, annotation: Annotation, area: int) -> bool:
        iou = annotation.get("predicted_iou", 1)
        return (
            (self.pred_iou_thresh == 0 or iou > self.pred_iou_thresh)
            and annotation.get("stability_score", 1) >= self.stability_score_thresh
            and area >= self.min_mask_area
            and (self.max_mask_area is None or area <= self.max_mask_area)
        )
