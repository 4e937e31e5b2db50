"""Measure the overhead of a job beyond the model, on this machine; docs/cluster.md has figures.

python -m everything.batch_jobs.measure throughput PHOTOS --variant nano  # Ray or local
python -m everything.batch_jobs.measure overhead --images 100000  # a model that takes 1 ms
python -m everything.batch_jobs.measure resume --images 1000000  # listing, nothing to do
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from PIL import Image
from rich.console import Console

from everything.benchmark.memory import peak_resident, resident
from everything.config import Recipe
from everything.errors import JobError
from everything.io.images.listing import list_images
from everything.io.images.sources import Source
from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.jobs.image_list import ImageList
from everything.jobs.label import LabelJob, label
from everything.jobs.ray_cluster import Cluster, connected
from everything.jobs.summary import Summary
from everything.masks.masks import Masks
from everything.pipeline.pipeline import Pipeline
from everything.pipeline.scene import Scene
from everything.recipes import resolve

spawn = multiprocessing.get_context("spawn")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_QUIET: dict[str, Any] = {"preview": False, "console": Console(file=io.StringIO())}


@app.command()
def throughput(
    photos: list[Path],
    variant: str = resolve.DEFAULT_VARIANT,
    sampler: str = "grid-16",
    workers: int = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of both, in turns.")] = 1,
) -> None:
    """Compare images/s of a job on Ray with as many local processes, in turns.

    Three rates: of the whole command, including loading the model in each process (Ray already
    runs); from the start of the first image to the end of the last; and after a quarter of the
    images, when all processes are surely busy.
    """
    recipe = resolve.resolve(variant, sampler=sampler)
    listing = partial(list_images, photos)
    cluster = Cluster(cpus=1, max_workers=workers, min_workers=workers)
    modes: dict[str, dict[str, Any]] = {
        "local": _QUIET | {"workers": workers},
        "ray": _QUIET | {"executor": cluster.run},
    }
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in modes}
    with connected(None):
        for _ in range(rounds):
            for name, how in modes.items():
                rates[name].append(_rates(partial(label, listing, recipe=recipe, **how)))
                print(json.dumps({name: rates[name][-1]}))
    ratios = {
        kind: round(_median(rates["ray"], kind) / _median(rates["local"], kind), 3)
        for kind in rates["ray"][0]
    }
    print(json.dumps({"variant": variant, "sampler": sampler, "ratios": ratios}))


def _rates(job: Callable[..., Summary]) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        out, began = Path(folder, "out"), time.time()
        summary = job(out=out)
        seconds = time.time() - began
        finished = (
            np.sort(Manifest(Folder(out)).table()["finished"].cast("int64").to_numpy()) / 1000
        )
    quarter = len(finished) // 4
    steady = (len(finished) - 1 - quarter) / (finished[-1] - finished[quarter])
    rates = {
        "with_loading": summary.done / seconds,
        "first_to_last": summary.images_per_second,
        "steady": float(steady),
    }
    return {name: round(rate, 4) for name, rate in rates.items()}


def _median(rates: list[dict[str, float]], kind: str) -> float:
    return float(np.median([one[kind] for one in rates]))


@app.command()
def overhead(images: int = 100_000, workers: int = 2, milliseconds: float = 1.0) -> None:
    """Measure the CPU time per image of all processes of a job, with a model that only sleeps."""
    with TemporaryDirectory() as folder:
        names = _same_photo(Path(folder), images)
        with connected(None), _ResourceSampler() as seen:
            summary = _run(names, Path(folder), workers, milliseconds)
    # Sleeping takes no CPU time, so all CPU time is overhead.
    per_image = sum(seen["core_seconds"].values()) / images
    print(json.dumps({
        "images": summary.done,
        "seconds": round(summary.seconds, 1),
        "overhead_ms_per_image_of_one_core": round(1000 * per_image, 3),
        "core_seconds": {name: round(value, 1) for name, value in seen["core_seconds"].items()},
        "driver_mb": seen["driver_mb"],
        "workers_mb": seen["workers_mb"],
    }))  # fmt: skip


def _run(
    names: Callable[[], Iterator[Source]], folder: Path, workers: int, milliseconds: float
) -> Summary:
    recipe = Recipe(
        variant="nothing", sampler={"name": "nothing", "ms": milliseconds}, version="1", weights=""
    )
    cluster = Cluster(cpus=1, max_workers=workers, min_workers=workers, block=128)
    return label(names, folder / "out", recipe, build=build, executor=cluster.run, **_QUIET)


def build(recipe: Recipe) -> Pipeline:
    """Stand in for recipes.build.build: a model that sleeps and finds nothing."""

    def sampler(scene: Scene) -> Iterator[Masks]:
        time.sleep(recipe.sampler["ms"] / 1000)
        return iter(())

    model: Any = None
    return Pipeline(model, sampler, recipe)


def _same_photo(folder: Path, images: int) -> Callable[[], Iterator[Source]]:
    """List one image under many names, so that the disk is not what is measured."""
    photo = folder / "photo.jpg"
    Image.fromarray(np.full((48, 64, 3), 99, np.uint8)).save(photo)
    size = photo.stat().st_size

    def listing() -> Iterator[Source]:
        for number in range(images):
            yield Source(str(folder), f"{number // 1000:04}/{number:07}.jpg", size, str(photo))

    return listing


class _ResourceSampler:
    """Samples memory (MB) of the driver and of the largest worker at each tenth of the time, and
    CPU seconds of the driver, of the workers, and of Ray's own processes."""

    def __enter__(self) -> dict[str, Any]:
        self._stop, self._cores = Event(), dict[tuple[str, int], float]()
        self._seen: dict[str, Any] = {"driver_mb": [], "workers_mb": [], "core_seconds": {}}
        self._before = _core_seconds(psutil.Process())
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self._seen

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for (role, _), value in self._cores.items():
            total = self._seen["core_seconds"]
            total[role] = total.get(role, 0.0) + value
        for name in ("driver_mb", "workers_mb"):
            self._seen[name] = self._seen[name][:: max(1, len(self._seen[name]) // 10)]

    def _watch(self) -> None:
        driver = psutil.Process()
        while not self._stop.wait(2):
            self._cores["driver", 0] = _core_seconds(driver) - self._before
            self._seen["driver_mb"].append(_rss(driver))
            largest = 0
            for process in driver.children(recursive=True):
                worker = "MapWorker" in _title(process)
                self._cores["workers" if worker else "ray", process.pid] = _core_seconds(process)
                largest = max(largest, _rss(process)) if worker else largest
            self._seen["workers_mb"].append(largest)


def _core_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss // 2**20)
    except psutil.Error:
        return 0


@app.command()
def resume(images: int = 1_000_000) -> None:
    """Measure seconds and peak memory to resume a finished job: list its images, find them done."""
    with TemporaryDirectory() as folder:
        store = Store(Path(folder, "out"), Recipe(variant="-", sampler={}, version="1", weights=""))
        photos = Path(folder, "photos")
        # In a separate process: its memory for a million rows would hide what is measured.
        made = spawn.Process(target=_as_if_done, args=(photos, store, images))
        made.start()
        made.join()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak; Linux only
        before = resident()
        with store.opened():
            times = [time.monotonic()]
            found = ImageList(list_images([photos]))
            times.append(time.monotonic())
            summary = Summary(photos, images=len(found))
            left = sum(1 for _ in LabelJob(store, found, summary).tasks())
            times.append(time.monotonic())
        if left:
            raise JobError(
                f"{left} images would be done again: the manifest that was made up is wrong"
            )
        listed, compared = np.diff(times).round(1).tolist()
        peak = peak_resident()
        print(json.dumps({
            "images": summary.images,
            "seconds_to_list": listed,
            "seconds_to_compare": compared,
            "memory_before_mb": before // 2**20,
            "memory_peak_mb": peak // 2**20,
        }))  # fmt: skip


def _as_if_done(photos: Path, store: Store, images: int) -> None:
    """Make a folder of images and its results: few files, under many names each."""
    with store.opened():  # marks the folder as one with results
        pass
    annotations = Path(store.folder.root, "annotations")
    rows, manifest = list[Row](), Manifest(store.folder)
    for number in range(images):
        name = f"{number // 1000:04}/{number:07}.jpg"
        if number % 1000 == 0:
            for place in (photos, annotations):
                (place / name).parent.mkdir(parents=True)
            photo, result = photos / name, annotations / f"{name}.json"
            photo.write_bytes(b"a photo")
            result.write_bytes(b"a result")
        else:
            os.link(photo, photos / name)
            os.link(result, annotations / f"{name}.json")
        stamp = result.stat()
        row = Row(name, "done", number, store.digest, "here", 1, 0.0, 0.0, source_bytes=7)
        row.bytes, row.mtime_ns = stamp.st_size, stamp.st_mtime_ns
        rows.append(row)
        if len(rows) == 1000 or number == images - 1:
            manifest.append(*rows)
            rows.clear()
    manifest.compact()


if __name__ == "__main__":
    app()
