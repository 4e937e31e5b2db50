"""How many worker processes a job has if nobody says, and which GPU each of them uses."""

from __future__ import annotations

import logging

import torch

from everything.config import Compute, Recipe
from everything.core.device import free_memory
from everything.core.machine import available_memory
from everything.core.threads import usable_cores
from everything.variants import VARIANTS

# Peaks of processes that label one image, in docs/bench.md (table 3): 850 MiB (nano) to 3,725
# (sam-vit-h), weights included; without these at most 1,280. One whose decoder computes the image
# side for every prompt peaked at 3,504, of which 1,800 are its own.
PROCESS, PLAIN = int(1.4 * 2**30), 2 * 2**30  # bytes
SHARE = 0.8  # of the memory that is available: images differ in size
# On a GPU: what CUDA itself takes, and an image encoder with its attention. Not measured.
CONTEXT, ENCODER, PER_GPU = int(0.6 * 2**30), 2 * 2**30, 4
PER_GPU_WORKER = 32  # images: CUDA takes seconds to start

_log = logging.getLogger(__name__)


def auto_workers(recipe: Recipe, images: int, threads: int) -> int:
    """Return how many worker processes serve a job on this machine best; 1 for few images.

    As many as there are cores, memory for them, and images that are worth their start; on GPUs
    also memory of theirs, and at most four on each, unless the CPU does most of the work.

    Args:
        recipe: All settings.
        images: Number of images.
        threads: PyTorch threads of each.
    """
    record = VARIANTS.get(recipe.variant)
    devices = devices_of(recipe.compute)
    on_gpus = devices[0].startswith("cuda")
    each = PER_GPU_WORKER if on_gpus else record.images_per_worker if record else 2
    limits = {
        "images": images // each,
        "cores": usable_cores() // threads,
        "memory": int(SHARE * available_memory()) // memory_need(recipe),
    }
    if devices == ["mps"]:
        limits["GPUs"] = 1
    if on_gpus:
        free = (free_memory(Compute(device=device)) for device in devices)
        limits["memory of GPUs"] = sum(int(SHARE * one) // gpu_need(recipe) for one in free)
        if not (record and record.on_cpu):
            limits["GPUs"] = PER_GPU * len(devices)
    tightest = min(limits, key=limits.__getitem__)
    count = max(1, limits[tightest])
    _log.info("%d worker processes, as many as %s allow (--workers)", count, tightest)
    return count


def devices_of(compute: Compute) -> list[str]:
    """Return the devices that workers use in turns: all GPUs, unless the settings name one."""
    if compute.device in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [compute.device]


def memory_need(recipe: Recipe) -> int:
    """Return the bytes of memory that a process of a job takes, at least as many as measured."""
    plain = recipe.decoding.decoder == "plain"
    return PROCESS + _weights(recipe) + (PLAIN if plain else 0)


def gpu_need(recipe: Recipe) -> int:
    """Return the bytes of a GPU's memory that a process of a job takes."""
    return CONTEXT + ENCODER + _weights(recipe) + recipe.compute.device_bytes


def _weights(recipe: Recipe) -> int:
    record = VARIANTS.get(recipe.variant)
    return 4 * record.parameters if record else 0
