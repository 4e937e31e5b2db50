"""Label images on a Ray cluster, with the same recipe, code and output as `everything label`.

ray job submit --working-dir . -- python -m everything.batch_jobs.annotate \
    --input s3://bucket/photos --out s3://bucket/labels --config configs/sa-1b.yaml

Rerun the same command to resume. See docs/cluster.md.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from everything.io.images.listing import image_lister
from everything.io.storage.locations import home_of
from everything.jobs.command_errors import exit_on_error
from everything.jobs.ray_cluster import GIB, Cluster

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def annotate(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            help="An input of everything label; repeatable.",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", help="Bucket URL, or a folder that all machines share.")
    ],
    config: Annotated[
        str | None, typer.Option(help="A recipe: a path or a bundled name.", show_default="none")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Model that finds the masks.", show_default="ucm-lite0")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Weights for the variant: a path or a URL.", show_default="its official weights"
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="How prompts are chosen.", show_default="grid-32")
    ] = None,
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
    cpus: Annotated[float, typer.Option(min=0, help="CPU cores per worker.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per worker, for example 1 or 0.25.")] = 0,
    memory: Annotated[float, typer.Option(min=0.5, help="Memory per worker (GiB).")] = 2,
    min_workers: Annotated[int, typer.Option(min=1, help="Minimum number of workers.")] = 1,
    max_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of workers.", show_default="as many as fit"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="PyTorch threads per worker.")] = 1,
    block: Annotated[int, typer.Option(min=1, help="Maximum number of images in a block.")] = 32,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Maximum seconds per image; a slower image fails.",
            show_default="no limit",
        ),
    ] = None,
    stop_after_failures: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Stop if the first N images all fail for the same reason; 0: never.",
        ),
    ] = 20,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Label only the first N images.", show_default="all")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Delete existing results and start over.", show_default="off"
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON.", show_default="off")
    ] = False,
) -> None:
    """Label images on a Ray cluster."""
    with exit_on_error():
        from everything.jobs.label import label
        from everything.jobs.progress import log_to
        from everything.recipes.resolve import resolve

        console = Console(stderr=True)
        log_to(console)
        recipe = resolve(variant, checkpoint, sampler, config, sets or ())
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
            max_pixels=recipe.reading.max_pixels,
        )
        images = image_lister(inputs, out, limit)
        with cluster.connected():
            summary = label(
                images,
                home_of(out),
                recipe,
                threads=threads,
                overwrite=overwrite,
                preview=False,
                limits=cluster.limits,
                console=console,
                executor=cluster.run,
                stop_after_failures=stop_after_failures,
            )
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        summary.print_to(Console())
    raise typer.Exit(summary.exit_code)


if __name__ == "__main__":
    app()
