"""Small stand-ins for what is large, slow or external."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from everything.config import Filters, Recipe
from everything.core.geometry import Frame, Size, View
from everything.core.prompts import Prompts
from everything.decoding.reference import PlainCandidates
from everything.errors import WeightsError
from everything.pipeline.pipeline import Pipeline
from everything.samplers.grid import Grid

_NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Run without root's rights, which ignore permissions; yield a folder that this user owns."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, _NOBODY, -1)
            os.seteuid(_NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def save_photo(path: Path, seed: int = 0, size: tuple[int, int] = (48, 64)) -> None:
    """Write a small colourful image of (height, width) px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    image = Image.fromarray(noise).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    image.save(path, quality=95)


RECIPE = Recipe(
    variant="discs",
    sampler={"name": "grid", "points_per_side": 3},
    filters=Filters(pred_iou_thresh=0.1, stability_score_thresh=0),
    version="1",
    weights="",
)
POISON = 7  # width of an image on which the process is killed
SEGFAULTS = 13  # width of an image on which the process crashes in native code
SLOW, HANGS = 9, 10  # widths: every prompt takes 0.2 s; hangs in C code


@dataclass(frozen=True)
class Discs:
    """A model that predicts three discs for a click; the brighter the image, the larger."""

    seconds: float = 0.0

    def frame(self, view: Size) -> Frame:
        return Frame(view=view, canvas=view, content=(0, 0, view[1], view[0]))

    def encode(self, view: View) -> View:
        if view.size[1] == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        if view.size[1] == SEGFAULTS:
            os.kill(os.getpid(), signal.SIGSEGV)
        if view.size[1] == POISON + 1:
            raise RuntimeError("out of\nluck")
        if view.size[1] == HANGS:
            re.match(r"(a+)+$", 64 * "a" + "b")  # and lets no other thread run
        time.sleep(self.seconds)
        return view

    def encode_batch(self, views: Sequence[View]) -> list[View]:
        return [self.encode(view) for view in views]

    def propose(self, embedding: View, prompts: Prompts, multimask_output: bool) -> PlainCandidates:
        height, width = embedding.size
        time.sleep(0.2 * len(prompts) if width == SLOW else 0)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        clicks = prompts.points[:, 0, :, None, None]
        away = ((x - clicks[:, 0]) ** 2 + (y - clicks[:, 1]) ** 2).sqrt()
        level = torch.arange(3).repeat(len(prompts))
        radius = (1 + level) * float(embedding.pixels.mean()) / 32
        logits = radius[:, None, None] - away.repeat_interleave(3, 0)
        prompt = torch.arange(len(prompts)).repeat_interleave(3)
        scores = 0.9 - 0.1 * level - 0.01 * prompt
        return PlainCandidates(scores, prompt, level, torch.arange(len(level)), logits.float())


def build(recipe: Recipe) -> Pipeline:
    """Replace recipes.build.build; the version `seconds_N` makes each image take N seconds."""
    seconds = recipe.version.removeprefix("seconds_")
    model = Discs(float(seconds) if seconds != recipe.version else 0.0)
    settings = {key: value for key, value in recipe.sampler.items() if key != "name"}
    return Pipeline(model, Grid(**settings), recipe)


def build_watched(on_image: Callable[[int], object]) -> Callable[[Recipe], Pipeline]:
    """Return a `build` whose model calls `on_image` with 0, 1, … before it encodes an image."""

    class Watched(Discs):
        count = -1

        def encode(self, view: View) -> View:
            Watched.count += 1
            on_image(Watched.count)
            return super().encode(view)

    return lambda recipe: replace(build(recipe), model=Watched())


def build_nothing(recipe: Recipe) -> Pipeline:
    """Replace recipes.build.build as if weights were missing."""
    raise WeightsError("discs.pth: not found: download it")
