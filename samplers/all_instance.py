"""Masks from an instance segmentation network, without prompts or the variant's image encoder."""

from __future__ import annotations

from collections.abc import Iterator

from everything.detectors.detector import DetectorSettings
from everything.masks.masks import Masks
from everything.pipeline.scene import Scene

WORKING_SET = 64 * 2**20  # bytes of logits over the view that are processed in one batch


class AllInstance(DetectorSettings):
    """FastSAM's everything mode (Zhao et al., 2023).

    One pass of an instance segmentation network finds all masks. A mask's score is the network's
    confidence, its stability comes from the mask's logits. FastSAM keeps them all, and so does
    this sampler's preset.
    """

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield the network's masks in batches of bounded memory."""
        detections = self.detect(scene)
        height, width = scene.view.size
        step = max(1, WORKING_SET // (4 * height * width))
        for start in range(0, len(detections.scores), step):
            yield scene.accept(detections.decoded(slice(start, start + step)))
