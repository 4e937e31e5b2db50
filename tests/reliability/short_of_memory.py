"""What becomes of work that there is too little memory for, in a process of its own.

The limit is the kernel's (RLIMIT_AS), so that what fails is torch's, numpy's and the decoders' own
allocation. Run with malloc giving memory back (MALLOC_*), or what was freed would not count.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from everything.config import Recipe
from everything.io.images.sources import list_inputs
from everything.jobs.label import label
from everything.pipeline.pipeline import Pipeline, segment
from everything.samplers.grid import Grid
from everything.variants.networks.sam import SamModel
from tests.blob_sam import blob_sam
from tests.fakes import RECIPE
from tests.photos import photo

MIB = 2**20
SIDE = 32  # of the grid: all its prompts go together


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """Let the process have that many bytes of addresses more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def pipeline(recipe: Recipe, points_per_batch: int) -> Pipeline:
    decoding = recipe.decoding.model_copy(update={"points_per_batch": points_per_batch})
    recipe = recipe.model_copy(update={"decoding": decoding})
    return Pipeline(SamModel(blob_sam()), Grid(points_per_side=SIDE), recipe)


def halved(more: int) -> dict[str, Any]:
    """Segment a photo with all prompts in one batch, with and without the limit."""
    pixels = photo("chelsea", 96)
    expected = segment(pixels, pipeline(RECIPE, 64)).to_sa1b()
    short = pipeline(RECIPE, SIDE**2)
    with at_most(more):
        found = segment(pixels, short).to_sa1b()
    return {
        "equal": found == expected,
        "masks": len(found),
        "at": short.state.batch_size.points_per_batch,
    }


def job(photos: Path, out: Path, more: int) -> dict[str, Any]:
    """Label photos, some of which are too large."""
    build = partial(pipeline, points_per_batch=64)
    with at_most(more):
        summary = label(partial(list_inputs, [photos]), out, RECIPE, preview=False, build=build)
    return {"done": summary.done, "failed": summary.failed}


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    home = Path(sys.argv[1])
    print(json.dumps(halved(8 * MIB) | job(home / "photos", home / "out", 100 * MIB)))
