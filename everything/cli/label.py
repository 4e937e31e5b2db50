"""`everything label`: segment every image of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from everything.cli.options import NO_IMAGES
from everything.cli.ray_option import address_of
from everything.errors import ConfigError, InputError
from everything.jobs.command_errors import exit_on_error

_FILES, _MODEL, _JOB = "Input and output", "Model and sampler", "Job"
_SAM = "SAM's settings (presets of the variant and the sampler override these defaults)"
_Int = int | None
_Float = float | None
_Text = str | None
_Bool = bool | None


def _option(panel: str, *name: str, help: str, default: str | bool = True, **more: Any) -> Any:
    return typer.Option(*name, help=help, show_default=default, rich_help_panel=panel, **more)


def _sam(help: str, default: str) -> Any:
    return _option(_SAM, help=help, default=default)


# Input and output
Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Images; folders (searched recursively); glob patterns; s3:// and other URLs; lists "
        "of images (.parquet, .csv, .jsonl, .txt); .tar and .zip archives.",
    ),
]
Out = Annotated[
    str, _option(_FILES, "--out", "-o", metavar="DIR", help="Folder or bucket URL for the results.")
]
Demo = Annotated[
    bool,
    _option(
        _FILES, "--demo", default="off",
        help="Label the demo images, which are part of the installed packages, instead of INPUT.",
    ),
]  # fmt: skip
Limit = Annotated[
    _Int,
    _option(
        _FILES, min=1, default="all images",
        help="Label only the first N images. Rerun without it to label the rest.",
    ),
]  # fmt: skip
MaskLevel = Annotated[
    _Text,
    _option(
        _FILES, default="all",
        help="Keep only masks of this level: whole (objects), part (parts of objects), subpart "
        "(parts of parts), or all.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    _option(
        _FILES,
        "--overwrite",
        default="off",
        help="Delete the results in DIR and start over; other files there are kept.",
    ),
]
ContinueAnyway = Annotated[
    bool,
    _option(
        _FILES, "--continue-anyway", default="off",
        help="Label the remaining images although the results in DIR have other settings; says "
        "what differs.",
    ),
]  # fmt: skip
Preview = Annotated[
    bool, _option(_FILES, help="Write an HTML page that shows the masks over the images.")
]
Json = Annotated[bool, _option(_FILES, "--json", default="off", help="Print the summary as JSON.")]

# Model and sampler
Variant = Annotated[
    _Text,
    _option(
        _MODEL, default="ucm-lite0, a small bundled model",
        help="Model that finds the masks: a name from `everything variants`.",
    ),
]  # fmt: skip
Checkpoint = Annotated[
    _Text,
    _option(
        _MODEL, default="the variant's official weights",
        help="Weights for the variant: a path or a URL.",
    ),
]  # fmt: skip
Sampler = Annotated[
    _Text,
    _option(
        _MODEL, default="grid-32, a grid of 32 x 32 points",
        help="How prompts are chosen: a name from `everything samplers`.",
    ),
]  # fmt: skip
Config = Annotated[
    _Text,
    _option(
        _MODEL, metavar="YAML", default="none",
        help="A recipe (all settings in one file): a path, or a name from "
        "`everything configs`. Options given here override it.",
    ),
]  # fmt: skip
Sets = Annotated[
    list[str] | None,
    _option(
        _MODEL, "--set", metavar="A.B=C", default="none",
        help="Set any setting, for example nms.kind=mask; repeatable. `everything settings` "
        "lists them.",
    ),
]  # fmt: skip
Device = Annotated[
    _Text,
    _option(
        _MODEL, default="auto", help="cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."
    ),
]  # fmt: skip
Precision = Annotated[
    _Text,
    _option(
        _MODEL, default="auto",
        help="Precision of the image encoder: fp32, bf16, fp16, or auto: the variant's own.",
    ),
]  # fmt: skip
Compile = Annotated[
    _Bool,
    _option(
        _MODEL, "--compile", default="off",
        help="Run the image encoder (on a GPU also the mask decoder) through torch.compile.",
    ),
]  # fmt: skip

# SAM's settings
PointsPerSide = Annotated[_Int, _sam("Points along each side of the prompt grid.", "32")]
PointsPerBatch = Annotated[_Int, _sam("Prompts decoded in one batch.", "64")]
PredIouThresh = Annotated[
    _Float, _sam("Keep masks with a predicted IoU above this; 0 keeps all.", "0.88")
]
StabilityScoreThresh = Annotated[
    _Float, _sam("Keep masks with a stability score of at least this; 0 keeps all.", "0.95")
]
StabilityScoreOffset = Annotated[
    _Float,
    _sam("Shift of the mask threshold (in logits) when the stability score is computed.", "1.0"),
]
BoxNmsThresh = Annotated[
    _Float, _sam("Overlap (IoU) above which masks of one crop are duplicates.", "0.7")
]
CropNLayers = Annotated[
    _Int, _sam("Layers of crops to segment besides the whole image; layer i has 4^i crops.", "0")
]
CropNmsThresh = Annotated[
    _Float, _sam("Overlap (IoU) above which masks of different crops are duplicates.", "0.7")
]
CropOverlapRatio = Annotated[
    _Float,
    _sam("Overlap of the crops in layer 1, as a fraction of the image's shorter side.", "0.3413"),
]
CropNPointsDownscaleFactor = Annotated[
    _Int, _sam("Divide the points per side by this factor in each further crop layer.", "1")
]
MinMaskRegionArea = Annotated[
    _Int, _sam("Remove holes and islands of a mask that are smaller than this (pixels).", "0")
]

# Job
Workers = Annotated[
    _Text,
    _option(
        _JOB, metavar="N", default="auto",
        help="Maximum number of worker processes. auto: one per CPU core, as far as memory and the "
        "number of images allow, on all GPUs; with --ray as many as fit on the cluster. With more "
        "than one, an image that crashes its worker fails alone.",
    ),
]  # fmt: skip
Threads = Annotated[
    int,
    _option(
        _JOB, min=1,
        help="PyTorch threads per worker process. Output is bit-identical only for equal thread "
        "counts.",
    ),
]  # fmt: skip
TimeLimit = Annotated[
    _Float,
    _option(
        _JOB, min=0.001, metavar="SECONDS", default="no limit",
        help="Maximum time per image. A slower image is recorded as failed; the job continues.",
    ),
]  # fmt: skip
StopAfterFailures = Annotated[
    int,
    _option(
        _JOB, min=0, metavar="N",
        help="Stop if the first N images all fail for the same reason; 0: never.",
    ),
]  # fmt: skip
Ray = Annotated[
    _Text,
    _option(
        _JOB, "--ray", metavar="[ADDRESS]", default="off: processes on this machine",
        help="Run the workers on a Ray cluster: at ADDRESS (HOST:PORT); without ADDRESS, at "
        "RAY_ADDRESS if that is set, or else on a cluster started on this machine.",
    ),
]  # fmt: skip

EPILOG = (
    "[b]Exit codes[/b]  0 all done · 3 some images failed (errors.jsonl lists them) · "
    "2 an option, setting or input is wrong · 1 the job could not run · 130 interrupted. "
    "Rerun the same command to resume."
)


def label(
    out: Out,
    inputs: Images = None,
    demo: Demo = False,
    limit: Limit = None,
    level: MaskLevel = None,
    overwrite: Overwrite = False,
    continue_anyway: ContinueAnyway = False,
    preview: Preview = True,
    as_json: Json = False,
    variant: Variant = None,
    checkpoint: Checkpoint = None,
    sampler: Sampler = None,
    config: Config = None,
    sets: Sets = None,
    device: Device = None,
    precision: Precision = None,
    compiled: Compile = None,
    points_per_side: PointsPerSide = None,
    points_per_batch: PointsPerBatch = None,
    pred_iou_thresh: PredIouThresh = None,
    stability_score_thresh: StabilityScoreThresh = None,
    stability_score_offset: StabilityScoreOffset = None,
    box_nms_thresh: BoxNmsThresh = None,
    crop_n_layers: CropNLayers = None,
    crop_nms_thresh: CropNmsThresh = None,
    crop_overlap_ratio: CropOverlapRatio = None,
    crop_n_points_downscale_factor: CropNPointsDownscaleFactor = None,
    min_mask_region_area: MinMaskRegionArea = None,
    workers: Workers = None,
    threads: Threads = 1,
    time_limit: TimeLimit = None,
    stop_after_failures: StopAfterFailures = 20,
    ray: Ray = None,
) -> None:
    """Segment every object in your images; writes one SA-1B JSON file per image.

    DIR gets annotations/ (the JSON files), manifest/ (a table with one row per image),
    errors.jsonl, recipe.yaml (all settings) and a preview page.
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
    with exit_on_error():
        from everything.io.images.listing import image_lister
        from everything.io.storage.locations import home_of

        if demo == bool(inputs):
            raise InputError(NO_IMAGES)
        count = _number_of(workers)
        # First all that takes no second to check, then what needs PyTorch.
        images = _demo_images(limit) if demo else image_lister(inputs or [], out, limit)
        images()  # refuses an input that does not exist
        from everything.jobs.progress import log_to
        from everything.recipes.resolve import resolve

        console = Console(stderr=True)
        log_to(console)
        recipe = resolve(variant, checkpoint, sampler, config, sets or (), flags)
        console.print(f"{recipe.variant}: {_licence(recipe.variant)}", style="dim")
        with console.status("loading PyTorch"):
            from everything.jobs import label as job

        with _execution(ray, count, threads, time_limit, recipe.reading.max_pixels) as execution:
            summary = job.label(
                images,
                home_of(out),
                recipe,
                workers=count,
                threads=threads,
                overwrite=overwrite,
                continue_anyway=continue_anyway,
                preview=preview,
                console=console,
                stop_after_failures=stop_after_failures,
                **execution,
            )
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        summary.print_to(Console())
    raise typer.Exit(summary.exit_code)


def _demo_images(limit: int | None) -> Any:
    from everything.io.images.demo import demo_images

    return lambda: demo_images()[:limit]


@contextmanager
def _execution(
    ray: str | None, workers: int | None, threads: int, time_limit: float | None, max_pixels: int
) -> Iterator[dict[str, Any]]:
    """Yield what `label` needs to run on this machine, or on a cluster, connected meanwhile."""
    from everything.io.images.decode import Limits

    if ray is None:
        yield {"limits": Limits(max_pixels=max_pixels, max_seconds=time_limit)}
        return
    from everything.jobs.ray_cluster import Cluster

    cluster = Cluster(
        address_of(ray), max_workers=workers, cpus=threads, threads=threads,
        time_limit=time_limit, max_pixels=max_pixels,
    )  # fmt: skip
    with cluster.connected():
        yield {"executor": cluster.run, "limits": cluster.limits}


def _number_of(workers: str | None) -> int | None:
    """The number of workers; None for auto."""
    if workers is None or workers == "auto":
        return None
    if not (workers.isdecimal() and int(workers) > 0):
        raise ConfigError(f"--workers {workers}: give a number from 1 on, or auto")
    return int(workers)


def _licence(variant: str) -> str:
    from everything.variants import VARIANTS

    return VARIANTS[variant].licence
