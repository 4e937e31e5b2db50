"""The walk of one image, from pixels to segments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from everything.batching import Batching
from everything.clock import Clock
from everything.config import Level, Recipe
from everything.model import Model, Sampler
from everything.nesting import levels_of
from everything.scene import Scene
from everything.segments import Segments
from everything.suppress import suppress
from everything.tidy import tidy
from everything.view import View, views


@dataclass(frozen=True)
class Pipeline:
    """A variant with its weights, a sampler, and the recipe that both were made from."""

    model: Model
    sampler: Sampler
    recipe: Recipe

    @cached_property
    def batching(self) -> Batching:
        """How many prompts are decoded together: what memory has allowed so far."""
        return Batching(self.recipe.decoding.points_per_batch)


@torch.inference_mode()
def segment(image: NDArray[np.uint8], pipeline: Pipeline, clock: Clock | None = None) -> Segments:
    """Return the segments of an image, uint8 (H, W, 3) RGB, best first.

    clock: receives seconds per stage and counts. An image without pixels has no segments. Raises
    ValueError if the array is of another kind.
    """
    recipe, clock = pipeline.recipe, clock or Clock()
    if image.size == 0:
        return Segments.empty()
    crops, nms, size = recipe.crops, recipe.nms, (image.shape[0], image.shape[1])
    found = [
        _of_view(view, pipeline, clock)
        for view in views(image, crops.crop_n_layers, crops.crop_overlap_ratio)
    ]
    with clock.stage("finish"):
        segments = Segments.cat(found)
        if len(found) > 1:
            # A crop sees its objects larger, so of duplicates the one from the smaller crop wins.
            segments = suppress(segments, 1 / _crop_areas(segments), nms.kind, nms.crop_nms_thresh)
        if recipe.tidy.min_mask_region_area > 0:
            threshold = max(nms.box_nms_thresh, nms.crop_nms_thresh)
            segments = tidy(segments, recipe.tidy.min_mask_region_area, threshold, size)
        segments = of_level(segments, recipe.output.level)
    clock.counts["masks"] += len(segments)
    return segments


def of_level(segments: Segments, level: Level) -> Segments:
    """Return the segments of one level (everything/nesting.py)."""
    if level == "all":
        return segments
    levels = levels_of(segments.rles, segments.scores.tolist())
    return segments[torch.tensor([one == level for one in levels], dtype=torch.bool)]


def _of_view(view: View, pipeline: Pipeline, clock: Clock) -> Segments:
    recipe = pipeline.recipe
    scene = Scene(pipeline.model, view, recipe, clock, pipeline.batching)
    with clock.stage("propose"):
        found = [masks.segments for masks in pipeline.sampler(scene)]
    with clock.stage("finish"):
        segments = Segments.cat(found) if found else Segments.empty()
        return suppress(segments, segments.scores, recipe.nms.kind, recipe.nms.box_nms_thresh)


def _crop_areas(segments: Segments) -> torch.Tensor:
    sides = (segments.crops[:, 2:] - segments.crops[:, :2]).float()
    return sides.prod(1)
