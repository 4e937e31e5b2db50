"""Label photos on a Ray cluster: the same recipe, code path and bytes as `everything label`.

ray job submit --working-dir . -- python -m everything.batch_jobs.annotate \
    --input s3://bucket/photos --out s3://bucket/labels --config configs/sa-1b.yaml

The same command again continues a job that was stopped. docs/cluster.md has the whole story.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from everything.io.images.listing import photos_in
from everything.io.storage.locations import home_of
from everything.jobs.command_errors import exit_on_error
from everything.jobs.ray_cluster import GIB, Cluster

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def annotate(
    inputs: Annotated[list[str], typer.Option("--input", help="As of everything label.")],
    out: Annotated[str, typer.Option("--out", help="A bucket, or a folder all machines share.")],
    config: Annotated[str | None, typer.Option(help="A recipe.")] = None,
    variant: Annotated[str | None, typer.Option(help="The model.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Its weights, or their URL.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Where to prompt.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="A.B=C, any setting.")] = None,
    address: Annotated[str | None, typer.Option(help="RAY_ADDRESS if not given.")] = None,
    cpus: Annotated[float, typer.Option(min=0, help="Of each worker.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="Of each worker: 1, or 0.25.")] = 0,
    memory: Annotated[float, typer.Option(min=0.5, help="Of each worker, GiB.")] = 2,
    min_workers: Annotated[int, typer.Option(min=1, help="The pool's least size.")] = 1,
    max_workers: Annotated[int | None, typer.Option(min=1, help="Its greatest.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch in each worker.")] = 1,
    block: Annotated[int, typer.Option(min=1, help="Photos handed out together, at most.")] = 32,
    time_limit: Annotated[
        float | None, typer.Option(min=0.001, help="Of work on a photo, s; longer ones fail.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many photos.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Label photos on a Ray cluster."""
    with exit_on_error():
        from everything.jobs.label import label
        from everything.jobs.progress import log_to
        from everything.recipes.resolve import resolve

        console = Console(stderr=True)
        log_to(console)
        cluster = Cluster(
            address=address,
            cpus=cpus,
            gpus=gpus,
            memory=int(memory * GIB),
            min_workers=min_workers,
            max_workers=max_workers,
            threads=threads,
            block=block,
            time_limit=time_limit,
        )
        summary = label(
            photos_in(inputs, out, limit),
            home_of(out),
            resolve(variant, checkpoint, sampler, config, sets or ()),
            threads=threads,
            overwrite=overwrite,
            preview=False,
            limits=cluster.limits,
            console=console,
            executor=cluster.run,
        )
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        summary.print_to(Console())
    raise typer.Exit(summary.exit_code)


if __name__ == "__main__":
    app()
