"""Boxes from an object detector, with one mask per box."""

from __future__ import annotations

from collections.abc import Iterator

from everything.core.prompts import Prompts
from everything.detectors.detector import DetectorSettings
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene


class ObjectAware(DetectorSettings):
    """MobileSAMv2's object-aware prompts (Zhang et al., 2023).

    A class-agnostic detector finds boxes; the decoder returns one mask per box. MobileSAMv2 keeps
    them all, and so does this sampler's preset: set pred_iou_thresh, nms.kind etc. to filter.
    """

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield one mask for every box."""
        boxes = self.detect(scene).boxes
        boxes = boxes[(boxes[:, :2] < boxes[:, 2:]).all(1)]
        yield from scene.decode(Prompts.boxes(boxes), multimask_output=False)
