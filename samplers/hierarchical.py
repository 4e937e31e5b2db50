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
from everything.core.masks import Masks
from everything.core.prompts import Prompts, lattice
from everything.pipeline.scene import Scene

# Steps from a coarse point to its neighbours on the lattice that is four times as fine.
NEIGHBOURS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))
BEYOND = (*((2, j) for j in (-1, 0, 1)), *((i, 2) for i in (-1, 0, 1)), (2, 2))


class Hierarchical(Settings):
    """TinySAM's hierarchical everything mode (Shu et al., 2023, section 3.4).

    The first round uses a quarter of the points per side. The second uses their neighbours, except
    those that a mask of the first round covers with high confidence.
    """

    points_per_side: int = Field(
        32, ge=1, description="points along each side of the fine lattice, in steps of four"
    )
    high_score_thresh: float = Field(
        8.5,
        description="mask logit that, exceeded, needs no second look; TinySAM's, of SAM's logits: "
        "ucm and nano, whose logits are others, have their own if it is not given",
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
        """Whether the first round is sure of a mask at points (P, 2) xy px of the view, bool (P,).

        Points lie on few lines: only where these cross masks are brought to the view's pixels.
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

    Each coarse point (P, 2) has 15: its 8 neighbours, and where these are inside the view 7 more
    on the far sides. A step is a whole number of px, the side divided by the points on it, as in
    TinySAM. Below points_per_side px a side that would be 0 and all points would fall together:
    there a step is 1 px and no pixel is prompted twice.
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
    """The first point in each pixel of a view of this width that has none of `taken`."""
    x, y = torch.cat([taken, points]).long().unbind(1)
    _, first = np.unique((y * width + x).numpy(), return_index=True)
    rows = torch.from_numpy(np.sort(first)) - len(taken)
    return points[rows[rows >= 0]]
