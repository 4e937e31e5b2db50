"""Segments: the masks of one image, compressed, in image pixels, as SA-1B records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything.core import rle
from everything.core.geometry import Size
from everything.core.instance_data import InstanceData
from everything.core.label_map import label_map
from everything.core.mask_hierarchy import parents_of
from everything.core.prompts import INSIDE, Prompts
from everything.core.rle import Rle


@dataclass(frozen=True)
class Segments(InstanceData):
    """N masks of one image.

    Attributes:
        rles: COCO run-length encodings over the image.
        boxes: float32 (N, 4) xyxy, inclusive image px.
        scores: float32 (N,), predicted IoU.
        stability: float32 (N,), stability score.
        levels: int64 (N,), which of its prompt's masks each one is.
        prompts: N rows, image px.
        crops: int64 (N, 4) xyxy, image px: the view in which each mask was found.

    Example:
        >>> from everything import load, segment
        >>> segments = segment(photo("coffee", 128), load("nano", "grid-16", pred_iou_thresh=0.6))
        >>> segments.masks((128, 128)).shape[0] == len(segments.areas()) == len(segments)
        True
        >>> best = segments[segments.scores.argsort(descending=True)[:3]]
        >>> sorted(best.to_sa1b()[0])[:4]
        ['area', 'bbox', 'crop_box', 'id']
    """

    rles: list[Rle]
    boxes: Tensor
    scores: Tensor
    stability: Tensor
    levels: Tensor
    prompts: Prompts
    crops: Tensor

    def __post_init__(self) -> None:
        self._check_lengths()

    @classmethod
    def empty(cls) -> Self:
        """Return an object without masks."""
        none = torch.zeros(0)
        boxes = torch.zeros(0, 4)
        prompts = Prompts.clicks(torch.zeros(0, 2))
        return cls([], boxes, none, none, none.long(), prompts, boxes.long())

    def areas(self) -> Tensor:
        """Return the areas, int64 (N,) px."""
        return rle.areas(self.rles)

    def masks(self, size: Size) -> NDArray[np.bool_]:
        """Return the masks, bool (N, H, W), of an image of (H, W) px: N * H * W bytes."""
        return rle.decode(self.rles, size)

    def label_map(self, size: Size, full: bool = False) -> NDArray[np.uint16]:
        """Return a label map without overlaps, uint16 (H, W), of an image of (H, W) px.

        See everything/core/label_map.py.

        Args:
            size: (H, W) of the image.
            full: Assign pixels without a mask to the nearest mask.

        Raises:
            ValueError: There are more than 65,535 masks.
        """
        if len(self) > np.iinfo(np.uint16).max:
            raise ValueError(f"a 16-bit label map holds at most 65535 masks, not {len(self)}")
        return label_map(self.rles, size, full).astype(np.uint16)

    def to_sa1b(self, parents: bool = False) -> list[dict[str, Any]]:
        """Return one record per mask with SA-1B's fields.

        A mask from a box prompt also has that box, `prompt_box` xyxy.

        Args:
            parents: Add `parent_id`, the ID of the mask of which it is a part, or None.
        """
        records = [self._record(row, area) for row, area in enumerate(self.areas().tolist())]
        if parents:
            for record, parent in zip(records, parents_of(self.rles), strict=True):
                record["parent_id"] = parent
        return records

    def _record(self, row: int, area: int) -> dict[str, Any]:
        box = self.prompts.box(row)
        record = {
            "id": row,
            "segmentation": self.rles[row],
            "bbox": _xywh(self.boxes[row].tolist()),
            "area": area,
            "predicted_iou": self.scores[row].item(),
            "stability_score": self.stability[row].item(),
            "crop_box": _xywh(self.crops[row].tolist()),
            "point_coords": self._points(row, box),
        }
        return record | ({"prompt_box": box} if box else {})

    def _points(self, row: int, box: list[float] | None) -> list[list[float]]:
        if box:
            centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
            return [centre]
        inside = self.prompts.labels[row] == INSIDE
        points: list[list[float]] = self.prompts.points[row][inside].tolist()
        return points


def _xywh(xyxy: list[float]) -> list[float]:
    x0, y0, x1, y1 = xyxy
    return [x0, y0, x1 - x0, y1 - y0]
