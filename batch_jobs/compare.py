"""Samplers x variants, timed on the machines of a Ray cluster, as one table.

python -m everything.batch_jobs.compare --input s3://bucket/photos --variants ucm,mobilesam \
    --samplers grid-32,hierarchical --out comparison

Each pair is a row of Ray Data's, measured by everything/benchmark in a process of its own with as
many cores as it uses threads. Times are comparable where the machines are alike, which the notes
below the table tell.
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
from everything.benchmark.output.report_files import save
from everything.benchmark.output.report_tables import print_to
from everything.benchmark.report import Report
from everything.errors import InputError, JobError
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.listing import list_photos
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
    """Return one report of every variant with every sampler, each measured on some machine.

    repeats, threads, sets: as of everything.benchmark.bench. gpus: of each process. A pair that
    cannot be measured is a note. Raises InputError without photos, and JobError if nothing could
    be measured.
    """
    if not photos:
        raise InputError("no photos to measure with: name some")
    how = {
        "repeats": repeats,
        "thread_count": threads,
        "sets": tuple(sets),
        "memory": False,
        "apart": True,  # a pair that dies of its memory is a note, and not tried for ever
    }
    pairs = [{"variant": v, "sampler": s} for v, s in product(variants, samplers)]
    with connected(address):
        import ray

        cells = ray.data.from_items(pairs, override_num_blocks=len(pairs)).map(
            _Cell,  # type: ignore[arg-type]  # a class is made once in each process
            fn_constructor_args=(list(photos), how),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(pairs)),
            num_cpus=threads,
            num_gpus=gpus,
        )
        found = [(row["host"], row["report"]) for row in cells.iter_rows()]
    return merged(found, [*variants, *samplers])


class _Cell:
    """Measures pairs, one after the other."""

    def __init__(self, photos: list[Source], how: dict[str, Any]) -> None:
        self._folder = TemporaryDirectory(prefix="everything-compare-")
        self._photos = [_fetched(photo, Path(self._folder.name)) for photo in photos]
        self._how = how

    def __call__(self, pair: dict[str, str]) -> dict[str, str]:
        """Return the machine and the report of a pair, or why there is none."""
        import socket

        try:
            report = bench(self._photos, [pair["variant"]], [pair["sampler"]], **self._how)
            text = report.to_json()
        except Exception as error:
            # One pair that cannot be, of whatever reason, must not cost the others.
            reason = " ".join(str(error).split())
            text = json.dumps({"failed": f"{pair['variant']} {pair['sampler']}: {reason}"})
        return {"host": socket.gethostname(), "report": text}


def merged(found: Sequence[tuple[str, str]], order: Sequence[str]) -> Report:
    """Return the reports of single pairs, as JSON with their machines' names, as one.

    order: of variants and samplers in the table. Raises JobError if each of them failed.
    """
    failed = [json.loads(text)["failed"] for _, text in found if '"failed"' in text[:12]]
    reports = [Report.from_json(text) for _, text in found if '"failed"' not in text[:12]]
    if not reports:
        raise JobError(f"nothing could be measured: {failed[0]}: mend that and run it again")
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
    """The photo as a file of this machine, where it is none yet."""
    if photo.file is None and isinstance(photo.location, Path):
        return photo
    target = folder / photo.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(read_source(photo, Limits()))
    return Source(str(folder), photo.name)


@app.command()
def main(
    inputs: Annotated[list[str], typer.Option("--input", help="As of everything label.")],
    variants: Annotated[str, typer.Option(metavar="A,B", help="Models.")] = "ucm",
    samplers: Annotated[str, typer.Option(metavar="A,B", help="Of everything samplers.")] = (
        "grid-16,grid-32,hierarchical"
    ),
    limit: Annotated[int, typer.Option(min=1, help="Only the first so many photos.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over all photos.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, and cores.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="Of each process.")] = 0,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A.B=C, any setting.")] = None,
    address: Annotated[str | None, typer.Option(help="RAY_ADDRESS if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="For tables, JSON, CSV and plots.")] = None,
) -> None:
    """Time every variant with every sampler on a Ray cluster."""
    with exit_on_error():
        report = compare(
            list(islice(list_photos([located(text) for text in inputs]), limit)),
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
