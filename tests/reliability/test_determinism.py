"""The same photo, recipe and machine give the same bytes, whoever does it and after whom."""

from __future__ import annotations

import json
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from everything import load, segment
from everything.io.images.sources import list_inputs
from everything.jobs.label import label
from everything.pipeline.pipeline import Pipeline
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from everything.samplers import SAMPLERS
from tests.detectors import tiny_concepts
from tests.photos import photo
from tests.reliability.trees import tree

NAMES = ("coffee", "camera", "zidane")  # colour, a grey strip, another shape


def masks(pipeline: Pipeline, name: str) -> str:
    return json.dumps(segment(photo(name, 128), pipeline).to_sa1b(parents=True))


@pytest.mark.parametrize("variant", ["ucm", "nano"])
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if not name.startswith("grid-")])
def test_what_was_done_before_does_not_matter(variant: str, sampler: str, tmp_path: Path) -> None:
    small: dict[str, object] = {}
    if sampler in ("grid", "hierarchical"):
        small = {"points_per_side": 8}
    if sampler == "concepts":
        tiny_concepts.save(tmp_path)
        small = {"concepts": "cat", "conf": 0, "model": str(tmp_path)}
    one, other = (load(variant, sampler, **small) for _ in range(2))
    forth = {name: masks(one, name) for name in NAMES}
    back = {name: masks(other, name) for name in reversed(NAMES)}
    assert forth == back
    assert any(len(found) > 2 for found in forth.values())


def test_how_many_workers_and_in_which_order_does_not_matter(tmp_path: Path) -> None:
    for number, name in enumerate((*NAMES, *NAMES)):
        place = tmp_path / f"photos/{number % 2}/{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(name, 100 + number)).save(place)
    recipe = resolve("nano", sampler="grid", sets=["sampler.points_per_side=6"])
    trees = []
    for workers, inputs in ((1, ["0", "1"]), (2, ["1", "0"])):
        out = tmp_path / f"out-{workers}"
        listing = partial(list_inputs, [tmp_path / "photos" / each for each in inputs], out)
        quiet = Console(file=StringIO())
        done = label(
            listing, out, recipe, workers=workers, preview=False, console=quiet, build=build
        )
        assert done.exit_code == 0
        trees.append(tree(out))
    for each in trees:
        for row in each["manifest/part-00000.parquet"]:
            del row["folder"]
        each["manifest/part-00000.parquet"].sort(key=lambda row: row["name"])
    assert trees[0] == trees[1]
    assert len(trees[0]["manifest/part-00000.parquet"]) == 6
