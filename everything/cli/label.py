"""`everything label`: segment every image of a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from everything.cli import label_options as o
from everything.cli.messages import console_for, loading
from everything.cli.options import NO_IMAGES
from everything.cli.ray_option import address_of
from everything.errors import ConfigError, InputError
from everything.jobs.command_errors import exit_on_error

if TYPE_CHECKING:
    from everything.cli.event_log import EventLog
    from everything.jobs.dry_run import Plan
    from everything.jobs.summary import Summary

EPILOG = (
    "[b]Exit codes[/b]  0 all done · 3 some images failed (errors.jsonl lists them) · "
    "2 an option, setting or input is wrong · 1 the job could not run · 130 interrupted. "
    "Rerun the same command to resume.\n\n"
    "[b]Defaults[/b]  Each option can also be set by a variable, as in EVERYTHING_LABEL_VARIANT, "
    "or in everything.yaml beside the images or in the current folder, under `label:`."
)


def label(
    out: o.Out,
    inputs: o.Images = None,
    demo: o.Demo = False,
    limit: o.Limit = None,
    level: o.MaskLevel = None,
    overwrite: o.Overwrite = False,
    continue_anyway: o.ContinueAnyway = False,
    preview: o.Preview = True,
    as_json: o.Json = False,
    variant: o.Variant = None,
    checkpoint: o.Checkpoint = None,
    sampler: o.Sampler = None,
    config: o.Config = None,
    sets: o.Sets = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compiled: o.Compile = None,
    points_per_side: o.PointsPerSide = None,
    points_per_batch: o.PointsPerBatch = None,
    pred_iou_thresh: o.PredIouThresh = None,
    stability_score_thresh: o.StabilityScoreThresh = None,
    stability_score_offset: o.StabilityScoreOffset = None,
    mask_threshold: o.MaskThreshold = None,
    box_nms_thresh: o.BoxNmsThresh = None,
    crop_n_layers: o.CropNLayers = None,
    crop_nms_thresh: o.CropNmsThresh = None,
    crop_overlap_ratio: o.CropOverlapRatio = None,
    crop_n_points_downscale_factor: o.CropNPointsDownscaleFactor = None,
    min_mask_region_area: o.MinMaskRegionArea = None,
    workers: o.Workers = None,
    threads: o.Threads = 1,
    time_limit: o.TimeLimit = None,
    stop_after_failures: o.StopAfterFailures = 20,
    ray: o.Ray = None,
    dry_run: o.DryRun = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    log_json: o.LogJson = False,
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
        "mask_threshold": mask_threshold,
        "box_nms_thresh": box_nms_thresh,
        "crop_n_layers": crop_n_layers,
        "crop_nms_thresh": crop_nms_thresh,
        "crop_overlap_ratio": crop_overlap_ratio,
        "crop_n_points_downscale_factor": crop_n_points_downscale_factor,
        "min_mask_region_area": min_mask_region_area,
        "level": level,
    }
    events = _event_log() if log_json else None
    with exit_on_error(events.error if events else None):
        from everything.io.images.listing import image_lister
        from everything.io.storage.locations import home_of

        if demo == bool(inputs):
            raise InputError(NO_IMAGES)
        count = _number_of(workers)
        if quiet + verbose + log_json > 1:
            raise InputError("--quiet, --verbose and --log-json: give one of them")
        # First all that takes no second to check, then what needs PyTorch.
        images = _demo_images(limit) if demo else image_lister(inputs or [], out, limit)
        images()  # refuses an input that does not exist
        from everything.core.console import spinner
        from everything.recipes.resolve import resolve

        console = _console(quiet, verbose, events)
        with loading(console):
            recipe = resolve(variant, checkpoint, sampler, config, sets or (), flags)
            from everything.jobs import dry_run as planning
            from everything.jobs import label as job

        console.print(f"{recipe.variant}: {_licence(recipe.variant)}", style="dim")
        arguments: dict[str, Any] = {
            "workers": count,
            "threads": threads,
            "overwrite": overwrite,
            "continue_anyway": continue_anyway,
        }
        if dry_run:
            from everything.io.images.decode import Limits

            if ray is None:
                job.refuse_shards(recipe)
            limits = Limits(max_pixels=recipe.reading.max_pixels, max_seconds=time_limit)
            with spinner("labelling the first images in memory", console):
                planned = planning.plan(images, home_of(out), recipe, limits=limits, **arguments)
            _print(planned, as_json, quiet)
            return
        with _execution(ray, count, threads, time_limit, recipe.reading.max_pixels) as execution:
            summary = job.label(
                images,
                home_of(out),
                recipe,
                preview=preview,
                console=console,
                stop_after_failures=stop_after_failures,
                observer=events,
                **arguments,
                **execution,
            )
    _print(summary, as_json, quiet)
    raise typer.Exit(summary.exit_code)


def _event_log() -> EventLog:
    from everything.cli.event_log import EventLog

    return EventLog(sys.stderr)


def _console(quiet: bool, verbose: bool, events: EventLog | None) -> Console:
    """Return the console for progress, and set up the program's log: with events, as events."""
    if events is None:
        return console_for(quiet, verbose)
    from everything.cli.event_log import EventHandler
    from everything.jobs.progress import log_by

    log_by(EventHandler(events))
    return Console(stderr=True, quiet=True)


def _print(result: Summary | Plan, as_json: bool, quiet: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
    elif not quiet:
        result.print_to(Console())


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
    from everything.recipes.resolve import variant_record

    return variant_record(variant).licence
