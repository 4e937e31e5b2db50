"""The way of one image through a pipeline, from pixels to segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from everything.config import Recipe
from everything.core.geometry import View, views
from everything.core.protocols import Model
from everything.core.raster import Pixels, Raster
from everything.core.stage_timer import StageTimer
from everything.io.images.inputs import ImageInput, each_image, is_one_image, name_of, pixels_of
from everything.masks.segments import Segments
from everything.pipeline.nms import suppress
from everything.pipeline.region_cleanup import tidy
from everything.pipeline.run_state import RunState
from everything.pipeline.scene import Sampler, Scene
from everything.pipeline.tiling import over_tiles


@dataclass(frozen=True)
class Pipeline:
    """A variant with its weights, a sampler, and the recipe that both were made from.

    Calling it is `everything.segment`.

    Attributes:
        model: The variant.
        sampler: Decides where to prompt.
        recipe: All settings.
        state: What the pipeline learns while it runs; new if it is not given.

    Example:
        >>> pipeline = load("ucm", "grid-16")
        >>> pipeline.recipe.variant
        'ucm'
        >>> [segments.name for segments in pipeline(["photos/chelsea.png", "photos/coffee.png"])]
        ['chelsea.png', 'coffee.png']
    """

    model: Model
    sampler: Sampler
    recipe: Recipe
    state: RunState = field(default=None, repr=False, compare=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.state is None:
            object.__setattr__(self, "state", RunState.of(self.recipe))

    # A path is also an iterable of characters; the first form that fits counts.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, image: ImageInput, timer: StageTimer | None = None
    ) -> Segments: ...
    @overload
    def __call__(
        self, image: Iterable[ImageInput], timer: StageTimer | None = None
    ) -> Iterator[Segments]: ...
    def __call__(self, image: Any, timer: StageTimer | None = None) -> Any:
        """Find every object's mask in one image or in several: see `everything.segment`."""
        return segment(image, self, timer)


@overload
def segment(  # type: ignore[overload-overlap]
    image: ImageInput, pipeline: Pipeline, timer: StageTimer | None = None
) -> Segments: ...
@overload
def segment(
    image: Iterable[ImageInput], pipeline: Pipeline, timer: StageTimer | None = None
) -> Iterator[Segments]: ...
def segment(image: Any, pipeline: Pipeline, timer: StageTimer | None = None) -> Any:
    """Find every object's mask in one image, or in each of several, as `everything.segment` does.

    Args:
        image: What `everything.segment` takes.
        pipeline: What `load` returned.
        timer: Receives seconds by stage, and counts.
    """
    timer = timer or StageTimer()
    if is_one_image(image):
        return _segment_all([image], pipeline, timer)[0]
    return _in_lots(each_image(image), pipeline, timer)


def _in_lots(
    images: Iterator[ImageInput], pipeline: Pipeline, timer: StageTimer
) -> Iterator[Segments]:
    while lot := list(islice(images, pipeline.recipe.compute.images_per_batch)):
        yield from _segment_all(lot, pipeline, timer)


def _segment_all(
    images: Iterable[ImageInput], pipeline: Pipeline, timer: StageTimer
) -> list[Segments]:
    """Read images, announce them to the encoder's queue, and segment them in order."""
    with timer.stage("read"):
        read = [(name_of(image), pixels_of(image)) for image in images]
    in_tiles = [is_for_tiles(pixels.shape[:2], pipeline.recipe) for _, pixels in read]
    found = [
        [] if tiled else views_of(pixels, pipeline.recipe)
        for (_, pixels), tiled in zip(read, in_tiles, strict=True)
    ]
    for image_views in found:
        pipeline.state.encoder_queue.expect(image_views, timer)
    results = []
    for (name, pixels), image_views, tiled in zip(read, found, in_tiles, strict=True):
        if tiled:
            segments = segment_tiles(Pixels(pixels), pipeline, timer)
        else:
            segments = segment_views(image_views, pipeline, timer)
        results.append(replace(segments, size=pixels.shape[:2], image=pixels, name=name))
    return results


def is_for_tiles(size: tuple[int, ...], recipe: Recipe) -> bool:
    """Whether an image of (H, W) px is segmented in tiles."""
    return 0 < recipe.tiles.tile_side < max(size)


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


def segment_tiles(raster: Raster, pipeline: Pipeline, timer: StageTimer | None = None) -> Segments:
    """Return the segments of a large image, best first, those across seams as one.

    Args:
        raster: The image, read by regions.
        pipeline: What `load` returned.
        timer: As of `segment`; `masks` counts what is left after joining.
    """
    timer = timer or StageTimer()
    before = timer.counts["masks"]
    level = pipeline.recipe.output.level
    # Of a whole object a tile may see only a part.
    of_tile = pipeline if level == "all" else replace(pipeline, recipe=_all_levels(pipeline.recipe))

    def of_pixels(pixels: NDArray[np.uint8]) -> Segments:
        image_views = views_of(pixels, of_tile.recipe)
        of_tile.state.encoder_queue.expect(image_views, timer)
        return segment_views(image_views, of_tile, timer)

    result = over_tiles(raster, pipeline.recipe.tiles, of_pixels, timer)
    with timer.stage("finish"):
        result = replace(result, size=raster.size).level(level)
    timer.counts["masks"] = before + len(result)
    return result


def _all_levels(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"output": recipe.output.model_copy(update={"level": "all"})})


def _of_view(view: View, pipeline: Pipeline, timer: StageTimer) -> Segments:
    recipe = pipeline.recipe
    scene = Scene(pipeline.model, view, recipe, timer, pipeline.state)
    with timer.stage("propose"):
        found = [masks.segments for masks in pipeline.sampler(scene)]
    with timer.stage("finish"):
        segments = Segments.cat(found) if found else Segments.empty()
        kept = suppress(segments, segments.scores, recipe.nms.kind, recipe.nms.box_nms_thresh)
        # Masks on a device are coded now: only of those that are left.
        return replace(kept, rles=list(kept.rles))


def _crop_areas(segments: Segments) -> torch.Tensor:
    sides = (segments.crops[:, 2:] - segments.crops[:, :2]).float()
    return sides.prod(1)
