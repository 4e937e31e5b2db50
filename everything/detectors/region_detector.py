"""The bundled detector: the best regions of ucm's region tree, as boxes or as masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from everything.bundled.region_masks import draw
from everything.bundled.region_tree import Ints, Regions
from everything.bundled.ucm import RegionEmbedding
from everything.config import Compute
from everything.core.geometry import Frame
from everything.core.prompts import Prompts
from everything.masks.masks import Decoded
from everything.pipeline.scene import Scene
from everything.variants import VARIANTS
from everything.variants.checkpoints.reader import read_state
from everything.variants.networks.ucm import UcmModel, architecture, blueprint


@dataclass(frozen=True)
class RegionDetections:
    """Regions of one view, best first. nodes: int64 (N,), their numbers in the region tree."""

    embedding: RegionEmbedding
    nodes: Ints
    frame: Frame

    @property
    def scores(self) -> Tensor:
        """Predicted IoU, float32 (N,)."""
        return torch.from_numpy(self.embedding.quality[self.nodes])

    @property
    def boxes(self) -> Tensor:
        """Boxes, float64 (N, 4) xyxy, view px."""
        corners = torch.from_numpy(self.embedding.regions.boxes[self.nodes]).double()
        return self.frame.from_canvas(corners.reshape(-1, 2, 2)).reshape(-1, 4)

    def decoded(self, rows: slice) -> Decoded:
        """Return the masks of the regions in a slice of rows."""
        logits = draw(self.embedding.regions, self.nodes[rows].tolist())
        levels = torch.zeros(len(logits), dtype=torch.int64)
        prompts = Prompts.boxes(self.boxes[rows])
        return Decoded(logits, self.scores[rows], levels, prompts, self.frame)


def detect(scene: Scene, *, conf: float, iou: float, max_det: int) -> RegionDetections:
    """Return the best regions of a scene's view.

    If the scene's variant is ucm, its own regions are used; otherwise the bundled
    ucm-lite0 encodes the view, on the variant's device.

    Args:
        scene: The scene.
        conf: Predicted IoU that a region must exceed.
        iou: Regions whose IoU with a better one exceeds this are dropped.
        max_det: Maximum number of regions.
    """
    model = scene.model if isinstance(scene.model, UcmModel) else _bundled_ucm(scene.device)
    embedding = scene.embedding if model is scene.model else model.encode(scene.view)
    best = np.argsort(-embedding.quality, kind="stable")
    best = best[embedding.quality[best] > conf]
    nodes = _distinct(embedding.regions, best, iou, max_det)
    return RegionDetections(embedding, nodes, model.frame(scene.view.size))


@cache
def _bundled_ucm(device: str) -> UcmModel:
    path = VARIANTS["ucm-lite0"].weights.path()
    state = read_state(path)
    network = blueprint(architecture(state)).load(state, str(path))
    return UcmModel(network, Compute(device=device))


def _distinct(regions: Regions, best: Ints, iou: float, count: int) -> Ints:
    """The first `count` nodes of `best`, int64 (N,), whose IoU with all nodes before is <= `iou`.

    Regions are nested or disjoint; the IoU of two nested ones is the ratio of their areas.
    """
    first, last, area = regions.first[best], regions.last[best], regions.area[best]
    alive = np.ones(len(best), bool)
    kept: list[int] = []
    for row in range(len(best)):
        if len(kept) == count:
            break
        if not alive[row]:
            continue
        kept.append(row)
        rest = slice(row + 1, None)
        inside = (first[row] <= first[rest]) & (last[rest] <= last[row])
        around = (first[rest] <= first[row]) & (last[row] <= last[rest])
        ratio = np.minimum(area[rest] / area[row], area[row] / area[rest])
        alive[rest] &= ~((inside | around) & (ratio > iou))
    return best[kept]
