"""Plans the cases of a benchmark: variants, samplers and programs, with their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from everything.benchmark import random_weights
from everything.benchmark.cases import (
    Loader,
    Spec,
    boxes_asked,
    with_own_mode,
    without_filters,
)
from everything.benchmark.environment import synchronise
from everything.benchmark.interleaved_runs import InProcessRunner, Runner
from everything.benchmark.random_checkpoints import needs_weights
from everything.benchmark.subprocess_runner import SubprocessRunner
from everything.benchmark.types import OWN_MODES, OWN_PROGRAM, Build, Key
from everything.config import Recipe
from everything.core.device import device_of
from everything.errors import ConfigError
from everything.io.images.decode import read_image
from everything.io.images.sources import Source
from everything.recipes import resolve

OnMessage = Callable[[str], None]


class Settings:
    """Settings that all cases of a benchmark share."""

    def __init__(
        self, config: Path | str | None, sets: tuple[str, ...], flags: dict[str, Any], build: Build
    ) -> None:
        self._config, self._sets, self._flags, self.build = config, sets, flags, build

    def recipe(
        self, variant: str, checkpoint: Path | None, sampler: str, sets: tuple[str, ...] = ()
    ) -> Recipe:
        """Return the recipe of a case; the user's settings override `sets`."""
        count = boxes_asked(sampler)
        name = sampler if count is None else "grid"
        merged = (*sets, *self._sets)
        recipe = resolve.resolve(variant, checkpoint, name, self._config, merged, self._flags)
        return recipe if count is None else without_filters(recipe)


class Plan:
    """Specs of the cases, and notes on those that cannot be measured."""

    def __init__(
        self,
        settings: Settings,
        photos: Sequence[Source],
        folder: Path,
        seed: int | None,
        on_message: OnMessage,
    ) -> None:
        self._settings, self._photos, self._folder = settings, photos, folder
        self._seed, self._on_message = seed, on_message
        self.specs: list[Spec] = []
        self.notes: list[str] = []

    def add(self, named: str, samplers: Sequence[str], against: Sequence[str]) -> None:
        """Add a variant with every sampler, by every program."""
        name, _, path = named.partition("=")
        checkpoint = Path(path) if path else None
        suited: dict[str, Any] = {}
        if self._seed is not None and checkpoint is None and needs_weights(name):
            checkpoint, suited = self._with_random_weights(name, self._seed)
        for sampler in samplers:
            recipe = self._settings.recipe(name, checkpoint, sampler)
            fit = sorted(f"sampler.{k}={v}" for k, v in suited.items() if k in recipe.sampler)
            if fit:
                recipe = self._settings.recipe(name, checkpoint, sampler, tuple(fit))
            for key in (Key(name, sampler, by) for by in (OWN_PROGRAM, *against)):
                if not key.is_own and boxes_asked(sampler):
                    continue
                own = with_own_mode(recipe, key.program) if key.program in OWN_MODES else recipe
                self.specs.append(Spec(key, own, self._settings.build))

    def load(self, stack: ExitStack, apart: bool, thread_count: int | None) -> list[Runner]:
        """Load the cases until the stack ends; raise if one of this program cannot be loaded."""
        loader, runners = Loader(), list[Runner]()
        for spec in self.specs:
            self._on_message(f"loading {spec.key}")
            try:
                if apart:
                    runners.append(stack.enter_context(SubprocessRunner(spec, thread_count)))
                else:
                    runners.append(
                        InProcessRunner(loader(spec), synchronise(device_of(spec.recipe.compute)))
                    )
            except ConfigError as error:
                if spec.key.is_own:
                    raise
                self.notes.append(f"{spec.key}: left out: {error}")
        return runners

    def _with_random_weights(self, variant: str, seed: int) -> tuple[Path, dict[str, Any]]:
        """Return a checkpoint, and settings of samplers by name."""
        self._on_message(f"making random weights of {variant}")
        pixels = [read_image(photo.path).pixels for photo in self._photos[:2]]
        made = random_weights.make(variant, seed, pixels, self._folder)
        filters, suited = made.filters, made.samplers
        self.notes.append(
            f"{variant}: random weights (seed {seed}), masks are blobs around their prompts, of "
            f"SAM's sizes, and mean nothing; heads scaled so that about "
            f"{random_weights.PASS_IOU:.0%} pass this variant's predicted IoU threshold, "
            f"{filters.pred_iou_thresh:g}, and {random_weights.PASS_STABILITY:.0%} of these its "
            f"stability threshold, {filters.stability_score_thresh:g}; hierarchical: "
            f"high_score_thresh {suited['high_score_thresh']:.2f}, so that its first round is "
            f"certain of about {random_weights.CERTAIN:.0%} of an image; auto-ppn: "
            f"{', '.join(f'{k} {suited[k]}' for k in random_weights.PROPOSED)}, as many as trained "
            f"heads propose"
        )
        return made.checkpoint, dict(suited)
