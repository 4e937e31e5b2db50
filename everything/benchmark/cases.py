"""Benchmark cases: a variant with a sampler, by this program or by another, to be timed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everything.benchmark.types import (
    BOXES,
    MALLOC_ENVIRONMENT,
    MALLOC_SUFFIX,
    OWN_MODES,
    BenchmarkCase,
    Build,
    Key,
    Run,
)
from everything.config import Filters, Nms, Recipe
from everything.core.geometry import Size
from everything.core.prompts import Prompts
from everything.core.rle import Rle
from everything.core.stage_timer import StageTimer
from everything.errors import ConfigError
from everything.masks.masks import Masks
from everything.pipeline.pipeline import Pipeline, segment
from everything.pipeline.scene import Sampler, Scene
from everything.recipes.build import build as build_pipeline
from everything.samplers import SAMPLERS


@dataclass(frozen=True)
class RandomBoxes:
    """A sampler that prompts with random boxes, the same ones for views of the same size."""

    count: int

    def __call__(self, scene: Scene) -> Iterator[Masks]:
        """Yield one mask for each box."""
        boxes = random_boxes(self.count, scene.view.size)
        yield from scene.decode(Prompts.boxes(boxes), multimask_output=False)


def random_boxes(count: int, size: Size) -> torch.Tensor:
    """Return boxes float32 (count, 4) xyxy inside a view of (h, w) px, sides 5 to 50 % of it."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(count, 4, generator=generator)
    sides = 0.05 + 0.45 * share[:, 2:]
    corner = share[:, :2] * (1 - sides)
    boxes = torch.cat([corner, corner + sides], 1)
    return boxes * torch.tensor([width, height, width, height])


def boxes_asked(sampler: str) -> int | None:
    """Return the N of a "boxes-N", or None for a real sampler; raises ConfigError."""
    if not sampler.startswith(BOXES):
        return None
    number = sampler.removeprefix(BOXES)
    if not number.isdecimal() or int(number) < 1:
        raise ConfigError(
            f"sampler {sampler!r}: write box prompts as boxes-N, for example boxes-50"
        )
    return int(number)


def without_filters(recipe: Recipe) -> Recipe:
    """Return the recipe without filters and NMS: every box prompt keeps its mask."""
    filters = Filters(pred_iou_thresh=0, stability_score_thresh=0)
    return recipe.model_copy(update={"filters": filters, "nms": Nms(kind="none")})


def with_own_mode(recipe: Recipe, mode: str) -> Recipe:
    """Return the recipe with the settings of one of OWN_MODES."""
    changed = {
        group: getattr(recipe, group).model_copy(update=settings)
        for group, settings in OWN_MODES[mode].items()
    }
    return recipe.model_copy(update=changed)


class Loader:
    """Loads cases; each variant is loaded once for all samplers and programs that use it."""

    def __init__(self) -> None:
        self._pipelines: dict[str, Pipeline] = {}

    def __call__(self, spec: Spec) -> BenchmarkCase:
        """Return the case; raises WeightsError, and ConfigError if a peer cannot do it."""
        pipeline = self._pipeline(spec)
        if spec.key.is_own:
            return BenchmarkCase(spec.key, own_run(pipeline))
        from everything.benchmark.reference_tools import PEERS

        return BenchmarkCase(spec.key, PEERS[spec.key.program].prepare(pipeline))

    def _pipeline(self, spec: Spec) -> Pipeline:
        recipe = spec.recipe
        parts = {"variant", "checkpoint", "weights", "compute", "decoding"}
        identity = recipe.model_dump_json(include=parts)
        if identity not in self._pipelines:
            self._pipelines[identity] = spec.build(recipe)
        return Pipeline(self._pipelines[identity].model, _sampler(spec), recipe)


def _sampler(spec: Spec) -> Sampler:
    count = boxes_asked(spec.key.sampler)
    if count is not None:
        return RandomBoxes(count)
    settings = dict(spec.recipe.sampler)
    made: Sampler = SAMPLERS[settings.pop("name")].load()(**settings)
    return made


def own_run(pipeline: Pipeline) -> Run:
    """Return this program's own everything mode."""

    def run(pixels: NDArray[np.uint8], timer: StageTimer) -> list[Rle]:
        return list(segment(pixels, pipeline, timer).rles)

    return run


@dataclass(frozen=True)
class Spec:
    """A case before it is loaded; can be sent to another process.

    Args:
        key: Names the case.
        recipe: Its settings.
        build: Builds the pipeline of a recipe.
    """

    key: Key
    recipe: Recipe
    build: Build = build_pipeline

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that its process must be started with."""
        return MALLOC_ENVIRONMENT if self.key.by.endswith(MALLOC_SUFFIX) else {}
