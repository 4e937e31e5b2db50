"""Two rounds of points: the second skips what the first masked with high confidence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from everything.config import Settings
from everything.core.geometry import Size
from everything.core.interpolation import crossings
from everything.core.prompts import Prompts, lattice
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene

# Offsets from a coarse point to its neighbours on the grid that is four times as fine.
NEIGHBOURS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))
BEYOND = (*((2, j) for j in (-1, 0, 1)), *((i, 2) for i in (-1, 0, 1)), (2, 2))


class Hierarchical(Settings):
    """TinySAM's hierarchical everything mode (Shu et al., 2023, section 3.4).

    The first round uses a quarter of the points per side. The second uses their neighbours, except
    those that a mask of the first round covers with high confidence.
    """

    points_per_side: int = Field(
        32,
        ge=1,
        description="points along each side of the fine grid, rounded down to a multiple of 4, at "
        "least 4",
    )
    high_score_thresh: float = Field(
        8.5,
        description="skip fine points where a coarse point's mask has a logit above this; the "
        "default is TinySAM's, for SAM's logits (ucm and nano have their own)",
    )

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of the second round, then those of the first.

        TinySAM fuses the rounds in this order, which decides between equal scores.
        """
        points_per_side = scene.points_per_side(self.points_per_side)
        coarse = coarse_points(scene.view.size, points_per_side)
        first = list(scene.decode(Prompts.clicks(coarse)))
        fine = fine_points(coarse, scene.view.size, points_per_side)
        yield from scene.decode(Prompts.clicks(fine[~self._covered(first, fine)]))
        yield from first

    def _covered(self, first: list[Masks], points: Tensor) -> Tensor:
        """Whether a mask of the first round is certain at points (P, 2) xy, view px: bool (P,).

        The points lie on few rows and columns: masks are interpolated only where these cross.
        """
        (columns, x), (rows, y) = (torch.unique(v, return_inverse=True) for v in points.long().T)
        covered = torch.zeros(len(rows), len(columns), dtype=torch.bool)
        for masks in first:
            if len(masks):
                logits = crossings(masks.decoded.logits, masks.decoded.frame, rows, columns)
                covered |= (logits > self.high_score_thresh).any(0).cpu()
        return covered[y, x]


def coarse_points(size: Size, points_per_side: int) -> Tensor:
    """Return the first round's points, float64 (P, 2) xy px of a view of (h, w) px, x fastest."""
    height, width = size
    unit = lattice(max(1, points_per_side // 4))
    return unit * torch.tensor([width, height], dtype=torch.float64)


def fine_points(coarse: Tensor, size: Size, points_per_side: int) -> Tensor:
    """Return the second round's candidates, float64 (P, 2) xy px of a view of (h, w) px.

    Each coarse point (P, 2) has up to 15, those inside the view: its 8 neighbours and 7 more to the
    right and below. As in TinySAM, a step is a whole number of px: the view's side divided by the
    points along it, rounded down. In a view with fewer px than points along a side that would be
    0: there a step is 1 px, and no pixel is prompted twice.
    """
    height, width = size
    far = torch.tensor([width, height], dtype=torch.float64)
    fine = max(1, points_per_side // 4) * 4
    step = torch.tensor([max(1, width // fine), max(1, height // fine)], dtype=torch.float64)
    offsets = torch.tensor(NEIGHBOURS + BEYOND, dtype=torch.float64)
    points = (coarse[:, None] + offsets * step).flatten(0, 1)
    points = points[((points >= 0) & (points < far)).all(1)]
    return points if min(size) >= fine else _in_new_pixels(points, coarse, width)


def _in_new_pixels(points: Tensor, taken: Tensor, width: int) -> Tensor:
    """The first point in each pixel that has no point of `taken`, in a view of this width."""
    x, y = torch.cat([taken, points]).long().unbind(1)
    _, first = np.unique((y * width + x).numpy(), return_index=True)
    rows = torch.from_numpy(np.sort(first)) - len(taken)
    return points[rows[rows >= 0]]
