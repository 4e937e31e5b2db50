"""Thresholds and levels after the fact: which masks of written results are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from everything.config import Level
from everything.core import rle
from everything.core.mask_hierarchy import annotation_levels, check_level
from everything.core.sa1b import Annotation
from everything.errors import ConfigError
from everything.io.results.review import ImageReview, MaskReview, Review


@dataclass(frozen=True)
class MaskFilter:
    """Which masks are kept.

    The level is that among the masks that pass the thresholds, whatever the review says of them: a
    part does not become an object when its object is rejected. Scores that an annotation does not
    have are 1.

    Attributes:
        level: Whole objects, their parts, or subparts (everything/core/mask_hierarchy.py).
        pred_iou_thresh: Keep masks with a predicted IoU above this; 0 keeps all.
        stability_score_thresh: Keep masks with a stability score of at least this.
        min_mask_area: Keep masks of at least so many px.
        max_mask_area: Keep masks of at most so many px.
        reviewed: Keep what a person did not reject on the report page, or accepted; tags become
            the masks' classes.

    Raises:
        ConfigError: A value is out of its limits.
    """

    level: Level = "all"
    pred_iou_thresh: float = 0.0
    stability_score_thresh: float = 0.0
    min_mask_area: int = 0
    max_mask_area: int | None = None
    reviewed: Review | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
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

    @property
    def about(self) -> dict[str, Any]:
        """What is kept, for recipes."""
        about = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name != "reviewed"
        }
        return about if self.reviewed is None else about | {"reviewed": self.reviewed.about}

    def __call__(
        self, annotations: Sequence[Annotation], image: ImageReview | None = None
    ) -> list[Annotation]:
        """Return the annotations that are kept, in their order.

        Args:
            annotations: All annotations of an image.
            image: What the review says of this image.
        """
        if self.keeps_all:
            return list(annotations)
        areas = rle.areas([one["segmentation"] for one in annotations]).tolist()
        rows = [row for row, one in enumerate(annotations) if self._passes(one, areas[row])]
        if self.level != "all":
            levels = annotation_levels([annotations[row] for row in rows])
            rows = [row for row, its in zip(rows, levels, strict=True) if its == self.level]
        if self.reviewed is None:
            return [annotations[row] for row in rows]
        said = image.matches(annotations) if image is not None else {}
        return [
            _tagged(annotations[row], said.get(row))
            for row in rows
            if self.reviewed.keeps(image, said.get(row))
        ]

    def _passes(self, annotation: Annotation, area: int) -> bool:
        iou = annotation.get("predicted_iou", 1)
        return (
            (self.pred_iou_thresh == 0 or iou > self.pred_iou_thresh)
            and annotation.get("stability_score", 1) >= self.stability_score_thresh
            and area >= self.min_mask_area
            and (self.max_mask_area is None or area <= self.max_mask_area)
        )


def _tagged(annotation: Annotation, mask: MaskReview | None) -> Annotation:
    return annotation if mask is None or mask.tag is None else annotation | {"category": mask.tag}
