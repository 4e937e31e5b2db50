"""The way of one image through a pipeline, from pixels to segments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from everything.config import Recipe
from everything.core.geometry import View, views
from everything.core.protocols import Model
from everything.core.stage_timer import StageTimer
from everything.masks.segments import Segments
from everything.pipeline.nms import suppress
from everything.pipeline.region_cleanup import tidy
from everything.pipeline.run_state import RunState
from everything.pipeline.scene import Sampler, Scene


@dataclass(frozen=True)
class Pipeline:
    """A variant with its weights, a sampler, and the recipe that both were made from.

    Attributes:
        model: The variant.
        sampler: Decides where to prompt.
        recipe: All settings.
        state: What the pipeline learns while it runs; new if it is not given.

    Example:
        >>> pipeline = load("ucm", "grid-16")
        >>> pipeline.recipe.variant
        'ucm'
    """

    model: Model
    sampler: Sampler
    recipe: Recipe
    state: RunState = field(default=None, repr=False, compare=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.state is None:
            object.__setattr__(self, "state", RunState.of(self.recipe))


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
    timer, found = timer or StageTimer(), views_of(image, pipeline.recipe)
    pipeline.state.encoder_queue.expect(found, timer)
    return replace(segment_views(found, pipeline, timer), size=image.shape[:2], image=image)


def views_of(image: NDArray[np.uint8], recipe: Recipe) -> list[View]:
    """Return the views of an image, uint8 (H, W, 3) RGB: the whole image and its crops.

    None if it has no pixels. Raises ValueError if the array has another shape or dtype.
    """
    if image.size == 0:
        return []
    return list(views(image, recipe.crops.crop_n_layers, recipe.crops.crop_overlap_ratio))


@torch.inference_mode()
def segment_views(image_views: list[View], pipeline: Pipeline, timer: StageTimer) -> Segments:
    """Return the segments of an image, best first, from its views (`views_of`)."""
    recipe, nms = pipeline.recipe, pipeline.recipe.nms
    if not image_views:
        return Segments.empty()
    try:
        found = [_of_view(view, pipeline, timer) for view in image_views]
    finally:
        pipeline.state.encoder_queue.forget(image_views)
    with timer.stage("finish"):
        segments = Segments.cat(found)
        if len(found) > 1:
            # Objects are larger in crops: of duplicates, the mask from the smaller crop wins.
            segments = suppress(segments, 1 / _crop_areas(segments), nms.kind, nms.crop_nms_thresh)
        if recipe.tidy.min_mask_region_area > 0:
            threshold = max(nms.box_nms_thresh, nms.crop_nms_thresh)
            segments = tidy(
                segments, recipe.tidy.min_mask_region_area, threshold, image_views[0].image_size
            )
        segments = segments.level(recipe.output.level)
    timer.counts["masks"] += len(segments)
    return replace(segments, size=image_views[0].image_size)


def _of_view(view: View, pipeline: Pipeline, timer: StageTimer) -> Segments:
    recipe = pipeline.recipe
    scene = Scene(pipeline.model, view, recipe, timer, pipeline.state)
    with timer.stage("propose"):
        found = [masks.segments for masks in pipeline.sampler(scene)]
    with timer.stage("finish"):
        segments = Segments.cat(found) if found else Segments.empty()
        return suppress(segments, segments.scores, recipe.nms.kind, recipe.nms.box_nms_thresh)


def _crop_areas(segments: Segments) -> torch.Tensor:
    sides = (segments.crops[:, 2:] - segments.crops[:, :2]).float()
    return sides.prod(1)
