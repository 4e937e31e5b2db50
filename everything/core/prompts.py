"""Prompts of points and boxes. A box is two points that are labelled as its corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from everything.core.instance_data import InstanceData

PADDING, OUTSIDE, INSIDE, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3


@dataclass(frozen=True)
class Prompts(InstanceData):
    """P prompts of at most K points each.

    Attributes:
        points: float64 (P, K, 2) xy, view px; double precision, so that scaling is lossless.
        labels: int64 (P, K): 1 inside, 0 outside, 2 and 3 the top left and bottom right corner of
            a box, -1 padding.

    Example:
        >>> import torch
        >>> points = Prompts.clicks(torch.tensor([[10, 20], [30, 40]]))
        >>> boxes = Prompts.boxes(torch.tensor([[0, 0, 50, 60]]))
        >>> prompts = Prompts.cat([points, boxes])
        >>> prompts.labels.tolist()
        [[1, -1], [1, -1], [2, 3]]
        >>> prompts.anchors().tolist()
        [[10.0, 20.0], [30.0, 40.0], [25.0, 30.0]]
    """

    points: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.points.shape != (*self.labels.shape, 2):
            raise ValueError(
                f"points {tuple(self.points.shape)} and labels {tuple(self.labels.shape)} "
                f"must be (P, K, 2) and (P, K)"
            )

    @classmethod
    def clicks(cls, xy: Tensor) -> Self:
        """Return one prompt per point (P, 2) xy, view px."""
        return cls(xy.double()[:, None], torch.full((len(xy), 1), INSIDE))

    @classmethod
    def boxes(cls, xyxy: Tensor) -> Self:
        """Return one prompt per box (P, 4) xyxy, view px."""
        corners = torch.tensor([TOP_LEFT, BOTTOM_RIGHT]).expand(len(xyxy), 2)
        return cls(xyxy.double().reshape(-1, 2, 2), corners)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Return all prompts in order; those with fewer points are padded with label -1."""
        if not parts:
            return cls.clicks(torch.zeros(0, 2))
        k = max(part.labels.shape[1] for part in parts)
        points = [F.pad(part.points, (0, 0, 0, k - part.points.shape[1])) for part in parts]
        labels = [F.pad(p.labels, (0, k - p.labels.shape[1]), value=PADDING) for p in parts]
        return cls(torch.cat(points), torch.cat(labels))

    def anchors(self) -> Tensor:
        """Return one point per prompt, float64 (P, 2) xy, view px.

        It is the centre of the box or, without a box, the mean of the points labelled inside.
        """
        corner = (self.labels == TOP_LEFT) | (self.labels == BOTTOM_RIGHT)
        has_box = corner.any(1, keepdim=True)
        used = torch.where(has_box, corner, self.labels == INSIDE).double()
        return (self.points * used[..., None]).sum(1) / used.sum(1, keepdim=True).clamp(min=1)

    def moved(self, by: tuple[float, float]) -> Self:
        """Return the prompts shifted by (x, y) px, for example from a crop to its image."""
        return type(self)(self.points + self.points.new_tensor(by), self.labels)

    def box(self, row: int) -> list[float] | None:
        """Return the box xyxy of one prompt, or None if it has none."""
        labels, points = self.labels[row], self.points[row]
        corner = (labels == TOP_LEFT) | (labels == BOTTOM_RIGHT)
        return points[corner].flatten().tolist() if corner.any() else None


def lattice(points_per_side: int) -> Tensor:
    """Return the centres of n x n equal cells of the unit square, float64 (n * n, 2), x fastest."""
    if points_per_side < 1:
        raise ValueError(f"points_per_side must be at least 1, not {points_per_side}")
    offset = 1 / (2 * points_per_side)
    # numpy's linspace, as SAM's: torch's differs in the last bit.
    side = torch.from_numpy(np.linspace(offset, 1 - offset, points_per_side))
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
