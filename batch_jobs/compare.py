"""Time samplers x variants on the machines of a Ray cluster, and report one table.

python -m everything.batch_jobs.compare --input s3://bucket/photos --variants ucm,mobilesam \
    --samplers grid-32,hierarchical --out comparison

Each pair is one row of Ray Data, measured by everything/benchmark in a separate process with as
many cores as it uses threads. Times are comparable if the machines are alike; the notes below the
table list them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console

from everything.benchmark import bench
from everything.benchmark.output.report_files import claim, save
from everything.benchmark.output.report_tables import print_to
from everything.benchmark.report import Report
from everything.errors import InputError, JobError, reason_of
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_images
from everything.io.images.sources import Source
from everything.io.storage.locations import located
from everything.jobs.command_errors import exit_on_error
from everything.jobs.ray_cluster import connected

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def compare(
    photos: Sequence[Source],
    variants: Sequence[str],
    samplers: Sequence[str],
    *,
    repeats: int = 3,
    threads: int = 1,
    gpus: float = 0,
    sets: Sequence[str] = (),
    address: str | None = None,
) -> Report:
    """Return one report of every variant with every sampler, each pair measured on some machine.

    A pair that cannot be measured becomes a note.

    Args:
        photos: images to measure on.
        variants: names of models.
        samplers: names of samplers.
        repeats: timed rounds over all images.
        threads: PyTorch threads, and cores, per process.
        gpus: GPUs per process.
        sets: settings, as "group.key=value".
        address: of the cluster; None for RAY_ADDRESS or a new cluster on this machine.

    Raises:
        InputError: if there are no images.
        JobError: if nothing could be measured.
    """
    if not photos:
        raise InputError("no images to measure on: give some")
    how = {
        "repeats": repeats,
        "thread_count": threads,
        "sets": tuple(sets),
        "memory": False,
        "apart": True,  # a pair that runs out of memory becomes a note, and is not retried for ever
    }
    pairs = [{"variant": v, "sampler": s} for v, s in product(variants, samplers)]
    with connected(address):
        import ray

        cells = ray.data.from_items(pairs, override_num_blocks=len(pairs)).map(
            _Cell,  # type: ignore[arg-type]  # one instance per process
            fn_constructor_args=(list(photos), how),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(pairs)),
            num_cpus=threads,
            num_gpus=gpus,
        )
        found = [(row["host"], row["report"]) for row in cells.iter_rows()]
    return merged(found, [*variants, *samplers])


class _Cell:
    """Measures pairs of variant and sampler, one after the other."""

    def __init__(self, photos: list[Source], how: dict[str, Any]) -> None:
        self._folder = TemporaryDirectory(prefix="everything-compare-")
        self._photos = [_fetched(photo, Path(self._folder.name)) for photo in photos]
        self._how = how

    def __call__(self, pair: dict[str, str]) -> dict[str, str]:
        """Return the host and the report of a pair as JSON, or why it has none."""
        import socket

        try:
            report = bench(self._photos, [pair["variant"]], [pair["sampler"]], **self._how)
            text = report.to_json()
        except Exception as error:
            # A pair that fails, for whatever reason, must not stop the others.
            reason = reason_of(error)
            text = json.dumps({"failed": f"{pair['variant']} {pair['sampler']}: {reason}"})
        return {"host": socket.gethostname(), "report": text}


def merged(found: Sequence[tuple[str, str]], order: Sequence[str]) -> Report:
    """Merge the reports of single pairs, as (host, JSON), into one.

    order: of variants and samplers in the table. Raises JobError if all of them failed.
    """
    failed = [json.loads(text)["failed"] for _, text in found if '"failed"' in text[:12]]
    reports = [Report.from_json(text) for _, text in found if '"failed"' not in text[:12]]
    if not reports:
        raise JobError(f"nothing could be measured: {failed[0]}: fix that and rerun")
    hosts = Counter(host for host, _ in found)
    where = ", ".join(f"{host} ({count})" for host, count in sorted(hosts.items()))
    processors = {str(report.machine["cpu"]) for report in reports}
    notes = [f"pairs by machine: {where}; processors: {', '.join(sorted(processors))}"]
    order = [*order, *(name for name in reports[0].settings["order"] if name not in order)]
    recipes = {k: r for report in reports for k, r in report.settings["recipes"].items()}
    return replace(
        reports[0],
        settings=reports[0].settings | {"order": order, "recipes": recipes},
        samples=[sample for report in reports for sample in report.samples],
        notes=[*notes, *(n for report in reports for n in report.notes), *failed],
    )


def _fetched(photo: Source, folder: Path) -> Source:
    """Return the image as a local file, downloaded if it is not one."""
    if photo.file is None and isinstance(photo.location, Path):
        return photo
    target = folder / photo.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(read_source(photo, Limits()))
    return Source(str(folder), photo.name)


@app.command()
def main(
    inputs: Annotated[
        list[str],
        typer.Option("--input", help="An input of everything label; repeatable."),
    ],
    variants: Annotated[str, typer.Option(metavar="A,B", help="Models to time.")] = "ucm-lite0",
    samplers: Annotated[str, typer.Option(metavar="A,B", help="Samplers to time.")] = (
        "grid-16,grid-32,hierarchical"
    ),
    limit: Annotated[int, typer.Option(min=1, help="Use only the first N images.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds over all images.")] = 3,
    threads: Annotated[
        int, typer.Option(min=1, help="PyTorch threads, and cores, per process.")
    ] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per process.")] = 0,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set any setting: A.B=C; repeatable.", show_default="none"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the cluster.", show_default="RAY_ADDRESS, or a cluster started here"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for tables, JSON, CSV and plots.", show_default="none"),
    ] = None,
) -> None:
    """Time every variant with every sampler on a Ray cluster."""
    with exit_on_error():
        if out is not None:
            claim(out)
        report = compare(
            list(islice(list_images([located(text) for text in inputs]), limit)),
            variants.split(","),
            samplers.split(","),
            repeats=repeats,
            threads=threads,
            gpus=gpus,
            sets=sets or (),
            address=address,
        )
        if out is not None:
            save(report, out)
    print_to(Console(), report)


if __name__ == "__main__":
    app()
