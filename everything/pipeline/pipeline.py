"""The walk of one image, from pixels to segments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from everything.config import Level, Recipe
from everything.core.geometry import View, views
from everything.core.mask_hierarchy import levels_of
from everything.core.protocols import Model
from everything.core.segments import Segments
from everything.core.stage_timer import StageTimer
from everything.pipeline.adaptive_batch_size import AdaptiveBatchSize
from everything.pipeline.encoder_batching import EncoderQueue
from everything.pipeline.nms import suppress
from everything.pipeline.region_cleanup import tidy
from everything.pipeline.scene import Sampler, Scene


@dataclass(frozen=True)
class Pipeline:
    """A variant with its weights, a sampler, and the recipe that both were made from."""

    model: Model
    sampler: Sampler
    recipe: Recipe

    @cached_property
    def batch_size(self) -> AdaptiveBatchSize:
        """How many prompts are decoded together: what memory has allowed so far."""
        return AdaptiveBatchSize(self.recipe.decoding.points_per_batch)

    @cached_property
    def encoder_queue(self) -> EncoderQueue:
        """What is known of views that are coming."""
        return EncoderQueue(self.model, self.recipe.compute.images_per_batch)


def segment(
    image: NDArray[np.uint8], pipeline: Pipeline, timer: StageTimer | None = None
) -> Segments:
    """Find every object's mask in one image.

    Args:
        image: uint8 (H, W, 3) RGB. One without pixels has no segments.
        pipeline: What `load` returned.
        timer: Receives seconds by stage, and counts.

    Returns:
        Masks with their scores and boxes, best first.

    Raises:
        ValueError: The array has another shape or dtype.

    Example:
        >>> image = photo("coffee", 128)  # uint8 (85, 128, 3)
        >>> segments = segment(image, load("ucm", "grid-16"))
        >>> sorted(segments.to_sa1b()[0])[:3]
        ['area', 'bbox', 'crop_box']
    """
    timer, looks = timer or StageTimer(), looks_at(image, pipeline.recipe)
    pipeline.encoder_queue.expect(looks, timer)
    return segment_views(looks, pipeline, timer)


def looks_at(image: NDArray[np.uint8], recipe: Recipe) -> list[View]:
    """Return the views of an image, uint8 (H, W, 3) RGB: itself and its crops, or none if it has no
    pixels. Raises ValueError if the array is of another kind."""
    if image.size == 0:
        return []
    return list(views(image, recipe.crops.crop_n_layers, recipe.crops.crop_overlap_ratio))


@torch.inference_mode()
def segment_views(looks: list[View], pipeline: Pipeline, timer: StageTimer) -> Segments:
    """Return the segments of an image by what `looks_at` returned of it, best first."""
    recipe, nms = pipeline.recipe, pipeline.recipe.nms
    if not looks:
        return Segments.empty()
    try:
        found = [_of_view(view, pipeline, timer) for view in looks]
    finally:
        pipeline.encoder_queue.forget(looks)
    with timer.stage("finish"):
        segments = Segments.cat(found)
        if len(found) > 1:
            # A crop sees its objects larger, so of duplicates the one from the smaller crop wins.
            segments = suppress(segments, 1 / _crop_areas(segments), nms.kind, nms.crop_nms_thresh)
        if recipe.tidy.min_mask_region_area > 0:
            threshold = max(nms.box_nms_thresh, nms.crop_nms_thresh)
            segments = tidy(
                segments, recipe.tidy.min_mask_region_area, threshold, looks[0].image_size
            )
        segments = of_level(segments, recipe.output.level)
    timer.counts["masks"] += len(segments)
    return segments


def of_level(segments: Segments, level: Level) -> Segments:
    """Return the segments of one level (everything/core/mask_hierarchy.py)."""
    if level == "all":
        return segments
    levels = levels_of(segments.rles, segments.scores.tolist())
    return segments[torch.tensor([one == level for one in levels], dtype=torch.bool)]


def _of_view(view: View, pipeline: Pipeline, timer: StageTimer) -> Segments:
    recipe = pipeline.recipe
    scene = Scene(pipeline.model, view, recipe, timer, pipeline.batch_size, pipeline.encoder_queue)
    with timer.stage("propose"):
        found = [masks.segments for masks in pipeline.sampler(scene)]
    with timer.stage("finish"):
        segments = Segments.cat(found) if found else Segments.empty()
        return suppress(segments, segments.scores, recipe.nms.kind, recipe.nms.box_nms_thresh)


def _crop_areas(segments: Segments) -> torch.Tensor:
    sides = (segments.crops[:, 2:] - segments.crops[:, :2]).float()
    return sides.prod(1)
