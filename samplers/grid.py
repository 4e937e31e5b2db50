"""A dense grid of points: SAM's own everything mode."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from everything.config import Settings
from everything.core.prompts import Prompts, lattice
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene

Points = tuple[tuple[float, float], ...]


class Grid(Settings):
    """One point at the centre of each of n x n equal cells, with three masks per point.

    `point_grids` replaces these grids: one list of points (x, y) in [0, 1] per crop layer.
    """

    points_per_side: int = Field(32, ge=1, description="points along each side of the image")
    point_grids: tuple[Points, ...] | None = Field(
        None,
        description="your own points instead: for each crop layer, (x, y) in [0, 1] of the view",
    )

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the masks of every point of the view's grid."""
        height, width = scene.view.size
        points = self._unit_points(scene) * torch.tensor([width, height], dtype=torch.float64)
        yield from scene.decode(Prompts.clicks(points))

    def _unit_points(self, scene: Scene) -> Tensor:
        if self.point_grids is None:
            return lattice(scene.points_per_side(self.points_per_side))
        if scene.view.depth >= len(self.point_grids):
            raise ValueError(
                f"sampler.point_grids has {len(self.point_grids)} grids, none for crop layer "
                f"{scene.view.depth}: give one grid per layer"
            )
        return torch.tensor(self.point_grids[scene.view.depth], dtype=torch.float64).reshape(-1, 2)
