"""A photo that takes too long is a failed row, and the only thing that is lost."""

from __future__ import annotations

import io
import json
import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from everything.cli.main import app
from everything.config import Decoding, Recipe
from everything.io.images.decode import Limits
from everything.io.images.sources import list_inputs
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.jobs import worker_pool
from everything.jobs.annotator import Annotator, Task
from everything.jobs.label import label
from everything.jobs.ray_blocks import block_of_tasks, rows_in
from everything.jobs.ray_worker import Worker
from everything.jobs.summary import Summary
from tests.fakes import HANGS, RECIPE, SLOW, build, save_photo

# One prompt after the other: between them is where a photo can be stopped.
ONE_BY_ONE = RECIPE.model_copy(update={"decoding": Decoding(points_per_batch=1)})
LIMITS = Limits(max_seconds=1)


def photos(folder: Path, *widths: int) -> Path:
    for number in range(6):
        save_photo(folder / f"{number}.png", number)
    for width in widths:
        save_photo(folder / f"2-{width}.png", size=(12, width))
    return folder


def run(folder: Path, out: Path, **options: object) -> Summary:
    quiet = {"build": build, "preview": False, "console": Console(file=io.StringIO())}
    listing = partial(list_inputs, [folder], out)
    return label(listing, out, ONE_BY_ONE, limits=LIMITS, **(quiet | options))


def errors(out: Path) -> dict[str, str]:
    lines = map(json.loads, (out / "errors.jsonl").read_text().splitlines())
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("count", [1, 2])
def test_slow_and_hanging_photos_cost_only_themselves(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "_LATE", 1.0)
    folder, out = photos(tmp_path / "photos", SLOW, HANGS), tmp_path / "out"
    summary = run(folder, out, workers=count)
    assert (summary.done, summary.failed, summary.exit_code) == (6, 2, 3)
    limit = "over the time limit of 1 s"
    assert errors(out) == {
        f"2-{SLOW}.png": f"{folder}/2-{SLOW}.png: {limit} (decode was next): "
        "raise --time-limit, or resize the image",
        f"2-{HANGS}.png": f"{folder}/2-{HANGS}.png: {limit} (its process hung and was killed): "
        "raise --time-limit, or resize the image",
    }
    assert len(list((out / "annotations").iterdir())) == 6


def annotator(out: Path, recipe: Recipe = ONE_BY_ONE) -> Annotator:
    return Annotator(build(recipe), Store(out, recipe), LIMITS)


def block_on_ray(out: Path, block: object, rows: Path) -> None:
    worker_pool._LATE = 1.0
    done = Worker(partial(annotator, out), 1)(block)
    rows.write_text(json.dumps({row.name: row.error for row in rows_in(done)}))


def test_on_ray_a_worker_dies_of_what_hangs_and_the_next_one_knows(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "photos", SLOW, HANGS), tmp_path / "out"
    Folder(out).create()
    block = block_of_tasks([Task(source) for source in list_inputs([folder])])
    context = multiprocessing.get_context("forkserver")
    codes = []
    for _ in range(2):  # Ray runs the block of a worker that died in another one
        process = context.Process(target=block_on_ray, args=[out, block, tmp_path / "rows"])
        process.start()
        process.join(60)
        codes.append(process.exitcode)
    assert codes == [1, 0]
    rows = json.loads((tmp_path / "rows").read_text())
    assert sum(error is None for error in rows.values()) == 6
    assert "(decode was next)" in rows[f"2-{SLOW}.png"]
    assert "(its process hung and was killed)" in rows[f"2-{HANGS}.png"]


def test_a_large_photo_of_many_tiles(tmp_path: Path) -> None:
    """The real thing, as users call it: a minute of tiles, of which four seconds are spent."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    large = Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC)
    (tmp_path / "photos").mkdir()
    large.save(tmp_path / "photos/large.jpg")
    large.resize((96, 72)).save(tmp_path / "photos/small.jpg")
    out = tmp_path / "out"
    command = ["label", str(tmp_path / "photos"), "--out", str(out), "--time-limit", "4"]
    said = CliRunner().invoke(app, [*command, "--set", "tiles.tile_side=512", "--no-preview"])
    assert said.exit_code == 3, said.output
    assert list(errors(out)) == ["large.jpg"]
    assert "large.jpg: over the time limit of 4 s" in errors(out)["large.jpg"]
    assert [path.name for path in (out / "annotations").iterdir()] == ["small.jpg.json"]
