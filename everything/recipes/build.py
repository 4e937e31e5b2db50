"""From a recipe to a pipeline: the model with its weights, and the sampler; `segment`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, overload

from everything.config import Recipe
from everything.core.file_names import printable
from everything.core.stage_timer import StageTimer
from everything.errors import WeightsError
from everything.io.images.inputs import ImageInput
from everything.masks.segments import Segments
from everything.pipeline.pipeline import Pipeline
from everything.pipeline.scene import prepare
from everything.recipes.provenance import check_files
from everything.recipes.resolve import resolve, sampler_record, variant_record
from everything.variants.checkpoints.cache import staged
from everything.variants.checkpoints.key_mapping import UnfitWeights
from everything.variants.checkpoints.reader import read_state
from everything.variants.checkpoints.recognition import fitting_names
from everything.variants.checkpoints.shared_weights import completed


def load(
    variant: str | None = None,
    sampler: str | None = None,
    *,
    checkpoint: Path | str | None = None,
    config: Path | str | None = None,
    **settings: Any,
) -> Pipeline:
    """Return a pipeline that is ready to segment images.

    Args:
        variant: A name that `list_variants` has; the bundled model by default.
        sampler: A name that `list_samplers` has; grid-32 by default.
        checkpoint: The variant's weights: a path or URL instead of the official download.
        config: A recipe: a YAML file, or a name that `everything configs` lists.
        **settings: Any setting by its own name, as on the command line.

    Raises:
        ConfigError: A name or setting is unknown, or a value out of its limits.
        WeightsError: The weights cannot be fetched or read, or are not the variant's.

    Example:
        >>> pipeline = load("ucm", "grid-16", pred_iou_thresh=0.6)
        >>> pipeline.recipe.filters.pred_iou_thresh
        0.6
    """
    return build(resolve(variant, checkpoint, sampler, config, (), settings))


def build(recipe: Recipe) -> Pipeline:
    """Build the pipeline of a recipe: the model with its weights on its device, and the sampler.

    Raises:
        WeightsError: If a file, also one of the sampler, is missing or is not the one that the
            recipe was made with, as can happen on another machine.
        ConfigError: If the device is not available, or the variant has no such decoder or cannot
            encode batches of images.
    """
    own = recipe.checkpoint
    record = variant_record(recipe.variant, own)
    path = staged(own, recipe.weights) if own else record.weights.path()
    check_files(recipe, record, path)
    state = completed(read_state(path), record)
    try:
        model = record.network_module().build(
            state, str(path), recipe.compute, recipe.decoding, **record.options
        )
    except UnfitWeights as error:
        fitting = " or ".join(map(printable, fitting_names(state, path)))
        if not fitting:
            raise
        raise WeightsError(
            f"{path}: not weights of {recipe.variant} ({error.problem}): they fit {fitting}: give "
            f"it with --variant"
        ) from error
    settings = {key: value for key, value in recipe.sampler.items() if key != "name"}
    sampler = sampler_record(recipe.sampler["name"]).load()(**settings)
    prepare(sampler, recipe.variant)
    return Pipeline(model, sampler, recipe)


# A path is also an iterable of characters; the first form that fits counts.
@overload
def segment(  # type: ignore[overload-overlap]
    image: ImageInput, pipeline: Pipeline | None = None, timer: StageTimer | None = None
) -> Segments: ...
@overload
def segment(
    image: Iterable[ImageInput], pipeline: Pipeline | None = None, timer: StageTimer | None = None
) -> Iterator[Segments]: ...
def segment(image: Any, pipeline: Pipeline | None = None, timer: StageTimer | None = None) -> Any:
    """Find every object's mask in one image, or in each of several.

    Args:
        image: A path, URL, PIL image, numpy array uint8 (H, W, 3) RGB, (H, W) grey or (H, W, 4)
            RGBA, or torch tensor (C, H, W), both also of floating point from 0 to 1; or an iterable
            of such images. An image without pixels has no segments.
        pipeline: What `load` returned; by default what `load()` returns, loaded once per process.
        timer: Receives seconds by stage, and counts.

    Returns:
        Masks with their scores and boxes, best first. For an iterable, an iterator of them in the
        same order; `compute.images_per_batch` images are read at a time.

    Raises:
        TypeError: It is no image.
        ValueError: An array or tensor has another shape, dtype or range.
        EverythingError: A file cannot be read.

    Example:
        >>> segments = segment("photos/coffee.png")
        >>> segments.name, segments.size
        ('coffee.png', (85, 128))
        >>> sorted(segments.to_sa1b()[0])[:3]
        ['area', 'bbox', 'crop_box']
        >>> pipeline = load("ucm", "grid-16")
        >>> [one.name for one in segment(["photos/coffee.png", "photos/chelsea.png"], pipeline)]
        ['coffee.png', 'chelsea.png']
    """
    return (pipeline or _default_pipeline())(image, timer)


@cache
def _default_pipeline() -> Pipeline:
    return load()
