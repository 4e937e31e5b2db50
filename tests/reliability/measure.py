"""The figures of docs/reliability.md that take minutes: python -m tests.reliability.measure."""

from __future__ import annotations

import faulthandler
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from PIL import Image
from rich.console import Console

from everything.io.images.sources import Source
from everything.jobs.label import label
from everything.recipes.build import build
from everything.recipes.resolve import resolve
from tests.photos import NAMES, photo
from tests.reliability import kills as killing

app = typer.Typer(add_completion=False)
_LONGEST = 3600.0  # s: of the run of a job with its kills


@app.callback()
def _figures() -> None:
    """The figures of docs/reliability.md that take minutes."""


@app.command()
def kills(
    count: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option()] = 0,
    real: Annotated[bool, typer.Option("--real", help="With ucm, not a stand-in.")] = False,
) -> None:
    """Kill jobs at random moments; every folder must end as that of an undisturbed job."""
    killing.prepare()
    rng, done = random.Random(seed), killing.Kills()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        photos = killing.make_photos(home / "photos", 24 if real else 60)
        killing.life_of(photos, home / "undisturbed-0", 1, real)  # the first one waits for imports
        lives = {n: killing.life_of(photos, home / f"undisturbed-{n}", n, real) for n in (1, 2)}
        killing.check_equal(home / "undisturbed-2", home / "undisturbed-1")
        typer.echo(f"undisturbed jobs by workers: {lives}", err=True)
        while len(done) < count:
            workers = 2 if done.runs % 4 == 3 else 1
            out = home / f"out-{done.runs}"
            most = min(rng.randint(1, 8), count - len(done))
            # Whatever happens, this ends, and says where it was.
            faulthandler.dump_traceback_later(_LONGEST, exit=True)
            killing.torment(photos, out, workers, rng, lives[workers], done, most, real)
            killing.check_equal(out, home / "undisturbed-1")
            typer.echo(f"{len(done)} kills in {done.runs} runs", err=True)
            (home / "log").unlink()
            shutil.rmtree(out)
        faulthandler.cancel_dump_traceback_later()
    total = lives[1].results
    typer.echo(f"{len(done)} kills, {done.runs} runs, {done.starts} starts; all trees equal")
    typer.echo(
        f"what: {dict(done.what)}; jobs that gave up: {done.gave_up}; servers of processes that "
        f"died: {done.servers}"
    )
    typer.echo(f"when: {dict(done.phases)}")
    fifths = Counter(min(4, 5 * number // (total + 1)) for number in done.results)
    shares = ", ".join(str(fifths[fifth]) for fifth in range(5))
    typer.echo(f"results that were there, of {total}, by fifths: {shares}")


@app.command()
def memory(
    photos: Annotated[int, typer.Option(min=100)] = 5000,
    variant: str = "ucm",
    sampler: str = "all-instance",
) -> None:
    """Label photos of all shapes in one process and fit a line to its resident memory."""
    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        listing = partial(_listed, _some_photos(home / "photos"), photos, sizes)
        recipe, quiet = resolve(variant, sampler=sampler), Console(file=StringIO())
        done = label(listing, home / "out", recipe, preview=False, console=quiet, build=build)
        assert done.done == photos
    sampled = np.array(sizes[-photos:]) / 2**20  # the listing is gone through more than once
    after = np.arange(photos) >= photos // 5
    slope, _ = np.polyfit(np.arange(photos)[after], sampled[after], 1)
    low, high = np.percentile(sampled[after], [1, 99])
    typer.echo(
        f"{photos} photos, {variant} with {sampler}: resident {sampled[0]:.0f} MiB at the "
        f"first one, {low:.0f} to {high:.0f} MiB (1st to 99th percentile) after the first fifth, "
        f"{slope * 1000:+.2f} MiB for 1,000 photos, at most {sampled.max():.0f}"
    )


def _some_photos(folder: Path) -> list[Path]:
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(photo(name, 100 + 20 * number)).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def _listed(photos: list[Path], count: int, sizes: list[int]) -> Iterator[Source]:
    """The photos, again and again under other names; notes the memory whenever one is asked for."""
    for number in range(count):
        link = photos[0].parent / f"{number:05}.png"
        if not link.exists():
            link.symlink_to(photos[number % len(photos)])
        sizes.append(psutil.Process().memory_info().rss)
        yield Source(str(link.parent), link.name)


if __name__ == "__main__":
    app()
