"""`everything label`: the folder job."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from everything.cli.errors import errors_shown
from everything.cli.options import Json
from everything.cli.status import address_of
from everything.errors import InputError

_RUN, _SAM, _JOB = "What finds the masks", "SAM's settings, by SAM's names", "The job"
Place = Annotated[str, typer.Option("--out", metavar="DIR", help="Where the results go.")]
Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Photos, folders at any depth, globs, s3:// and other URLs, lists (.parquet, .csv, "
        ".jsonl, .txt), .tar archives.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="[ADDRESS]", rich_help_panel=_JOB,
        help="Workers on a Ray cluster: at HOST:PORT, at RAY_ADDRESS, or one started here.",
    ),
]  # fmt: skip
Variant = Annotated[
    str | None,
    typer.Option(help="The model; see [b]everything variants[/b].", rich_help_panel=_RUN),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Its weights: a path, or a URL.", rich_help_panel=_RUN),
]
Sampler = Annotated[
    str | None,
    typer.Option(help="Where to prompt; see [b]everything samplers[/b].", rich_help_panel=_RUN),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="YAML", help="A recipe: a file, or one of [b]everything configs[/b].",
        rich_help_panel=_RUN,
    ),
]  # fmt: skip
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Any setting of the recipe; repeatable.",
        rich_help_panel=_RUN,
    ),
]  # fmt: skip
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes; as many as cores is fastest. A photo that kills one costs only itself.",
        rich_help_panel=_JOB,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=1,
        help="Of each process. Results are equal to the byte for equal threads only.",
        rich_help_panel=_JOB,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.001, metavar="SECONDS", rich_help_panel=_JOB,
        help="Of work on a photo: one that takes longer is a failed row, and the job goes on.",
    ),
]  # fmt: skip
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Only the first so many photos: a look before the rest.", rich_help_panel=_JOB
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Remove the results that are in DIR first.", rich_help_panel=_JOB
    ),
]
Preview = Annotated[
    bool,
    typer.Option(help="Make a page that shows the masks over the photos.", rich_help_panel=_JOB),
]
Demo = Annotated[
    bool,
    typer.Option(
        "--demo", help="Label the photos that come with the program's parts.", rich_help_panel=_JOB
    ),
]
_Int = int | None
_Float = float | None
_Text = str | None
_Bool = bool | None


def _sam(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel=_SAM)


def _run(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel=_RUN)


EPILOG = (
    "[b]Exit codes[/b]  0 all done · 3 some photos failed (errors.jsonl lists them) · "
    "2 an option, setting or input is wrong · 1 the job could not run · 130 interrupted. "
    "The same command again continues a job that was stopped."
)


def label(
    out: Place,
    inputs: Places = None,
    variant: Variant = None,
    checkpoint: Checkpoint = None,
    sampler: Sampler = None,
    config: Config = None,
    sets: Sets = None,
    device: Annotated[_Text, _run("cpu, cuda, cuda:1, mps; a GPU if there is one.")] = None,
    precision: Annotated[_Text, _run("Of the image encoder: fp32, bf16, fp16.")] = None,
    compiled: Annotated[
        _Bool, typer.Option("--compile", help="torch.compile it.", rich_help_panel=_RUN)
    ] = None,
    points_per_side: Annotated[_Int, _sam("Points along each side of the grid.")] = None,
    points_per_batch: Annotated[_Int, _sam("Prompts decoded together.")] = None,
    pred_iou_thresh: Annotated[_Float, _sam("Least predicted IoU.")] = None,
    stability_score_thresh: Annotated[_Float, _sam("Least stability.")] = None,
    stability_score_offset: Annotated[
        _Float, _sam("Shift of the cut, logits, for stability.")
    ] = None,
    box_nms_thresh: Annotated[_Float, _sam("Overlap of duplicates within a crop.")] = None,
    crop_n_layers: Annotated[_Int, _sam("Layers of crops; layer i has 4^i.")] = None,
    crop_nms_thresh: Annotated[_Float, _sam("Overlap of duplicates across crops.")] = None,
    crop_overlap_ratio: Annotated[_Float, _sam("Overlap of crops, of the short side.")] = None,
    crop_n_points_downscale_factor: Annotated[_Int, _sam("Fewer points per layer.")] = None,
    min_mask_region_area: Annotated[_Int, _sam("Smaller holes, islands are removed, px.")] = None,
    level: Annotated[
        str | None, typer.Option(help="Only masks that are a whole, a part or a subpart.")
    ] = None,
    workers: Workers = None,
    threads: Threads = 1,
    time_limit: TimeLimit = None,
    ray: Ray = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
    demo: Demo = False,
    preview: Preview = True,
    as_json: Json = False,
) -> None:
    """Find every object's mask in photos: one SA-1B JSON file for each photo.

    DIR gets annotations/, manifest/ (one row per photo), errors.jsonl, recipe.yaml and a preview.
    """
    flags = {
        "device": device,
        "precision": precision,
        "compile": compiled,
        "points_per_side": points_per_side,
        "points_per_batch": points_per_batch,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "stability_score_offset": stability_score_offset,
        "box_nms_thresh": box_nms_thresh,
        "crop_n_layers": crop_n_layers,
        "crop_nms_thresh": crop_nms_thresh,
        "crop_overlap_ratio": crop_overlap_ratio,
        "crop_n_points_downscale_factor": crop_n_points_downscale_factor,
        "min_mask_region_area": min_mask_region_area,
        "level": level,
    }
    with errors_shown():
        from everything.io.images.listing import photos_in
        from everything.io.storage.locations import home_of

        if demo == bool(inputs):
            raise InputError("give photos or folders, or --demo")
        photos = _demo_photos(limit) if demo else photos_in(inputs or [], out, limit)
        from everything.jobs import label as job
        from everything.jobs.progress import log_to
        from everything.recipes.resolve import resolve

        console = Console(stderr=True)
        log_to(console)
        recipe = resolve(variant, checkpoint, sampler, config, sets or (), flags)
        console.print(f"{recipe.variant}: {_licence(recipe.variant)}", style="dim")
        summary = job.label(
            photos,
            home_of(out),
            recipe,
            workers=workers or 1,
            threads=threads,
            overwrite=overwrite,
            preview=preview,
            console=console,
            **_elsewhere(ray, workers, threads, time_limit),
        )
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        summary.print_to(Console())
    raise typer.Exit(summary.exit_code)


def _demo_photos(limit: int | None) -> Any:
    from everything.io.images.demo import demo_photos

    return lambda: demo_photos()[:limit]


def _elsewhere(ray: str | None, workers: int | None, threads: int, time_limit: float | None) -> Any:
    from everything.io.images.decode import Limits

    if ray is None:
        return {"limits": Limits(max_seconds=time_limit)}
    from everything.jobs.ray_cluster import Cluster

    cluster = Cluster(
        address_of(ray), max_workers=workers, cpus=threads, threads=threads, time_limit=time_limit
    )
    return {"executor": cluster.run, "limits": cluster.limits}


def _licence(variant: str) -> str:
    from everything.variants import VARIANTS

    return VARIANTS[variant].licence
