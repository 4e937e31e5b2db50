"""Segments: masks of one image as SA-1B records, compressed, in image pixels."""

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

    rles: COCO run lengths over the image. boxes: float32 (N, 4) xyxy, inclusive px. scores,
    stability: float32 (N,). levels: int64 (N,) which of its prompt's answers a mask is.
    prompts: N rows, image px. crops: int64 (N, 4) xyxy, the view that a mask was found in.
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
        """Return no masks at all."""
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
        """Return the map without overlaps (everything/core/label_map.py), 16 bits deep.

        Raises ValueError beyond 65,535 masks.
        """
        if len(self) > np.iinfo(np.uint16).max:
            raise ValueError(f"a 16-bit label map holds 65535 masks, these are {len(self)}")
        return label_map(self.rles, size, full).astype(np.uint16)

    def to_sa1b(self, parents: bool = False) -> list[dict[str, Any]]:
        """Return one record for each mask with exactly SA-1B's fields; a mask found by a box
        prompt has the box besides, as `prompt_box` xyxy. parents: each has `parent_id` besides."""
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
