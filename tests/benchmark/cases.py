"""Pipelines for benchmarks that take milliseconds: the fitted small SAM, and models that fail."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch

from everything.benchmark.types import MALLOC_ENVIRONMENT
from everything.config import Recipe
from everything.core.geometry import View
from everything.core.prompts import Prompts
from everything.errors import ConfigError
from everything.pipeline.pipeline import Pipeline
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam


def build_blobs(recipe: Recipe) -> Pipeline:
    """Take the place of loading.build: whatever the variant, it is the small SAM."""
    model = SamModel(blob_sam(), recipe.compute, recipe.decoding)
    return Pipeline(model, Grid(), recipe)


class Hungry(SamModel):
    """Asks for more memory than there is."""

    def propose(self, embedding: Any, prompts: Prompts, multimask_output: bool) -> Any:
        torch.empty(2**58)


class Killed(SamModel):
    """Meets what a process meets that the system finds too large."""

    def encode(self, view: View) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def build_hungry(recipe: Recipe) -> Pipeline:
    """Small SAM as mobilesam, without memory for decoding as tinysam."""
    kind = Hungry if recipe.variant == "sam-vit-l" else SamModel
    return Pipeline(kind(blob_sam()), Grid(), recipe)


class Faulty(SamModel):
    """Has an error of its own."""

    def encode(self, view: View) -> Any:
        raise IndexError("ours")


def build_faulty(recipe: Recipe) -> Pipeline:
    """Small SAM, one with an error as sam-vit-l."""
    kind = Faulty if recipe.variant == "sam-vit-l" else SamModel
    return Pipeline(kind(blob_sam()), Grid(), recipe)


def build_killed(recipe: Recipe) -> Pipeline:
    """A model that takes its process with it."""
    return Pipeline(Killed(blob_sam()), Grid(), recipe)


def build_tuned(recipe: Recipe) -> Pipeline:
    """The small SAM, but in processes with malloc tuned only."""
    if not MALLOC_ENVIRONMENT.items() <= os.environ.items():
        raise ConfigError("malloc is as it is")
    return Pipeline(SamModel(blob_sam()), Grid(), recipe)
