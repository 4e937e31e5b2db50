"""The commands as Python functions, with paths and URLs as plain strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everything.evaluation.mask_scores import Scores
    from everything.export.fidelity import Fidelity
    from everything.io.storage.locations import Location
    from everything.jobs.import_labels import Imported
    from everything.jobs.labelled_folder import Labels

Place = str | PathLike[str]
"""A path or a URL such as s3://bucket/labels."""


def list_variants() -> list[dict[str, Any]]:
    """Return what `everything variants` prints: one record for each variant.

    Returns:
        Records with name, family, parameters, input rule, licence, source and status. The
        survey's entries that are not variants come last, with the reason as their status.

    Example:
        >>> [record["licence"] for record in list_variants() if record["name"] == "mobilesam"]
        ['Apache-2.0']
    """
    from everything.recipes import catalogue

    return catalogue.variants()


def list_samplers() -> list[dict[str, Any]]:
    """Return what `everything samplers` prints: one record for each sampler.

    Returns:
        Records with name, summary, source (the paper) and settings with their defaults.

    Example:
        >>> [record["name"] for record in list_samplers()][:4]
        ['grid', 'grid-16', 'grid-32', 'grid-64']
    """
    from everything.recipes import catalogue

    return catalogue.samplers()


def label(
    images: Place | Iterable[Place],
    out: Place,
    *,
    variant: str | None = None,
    sampler: str | None = None,
    checkpoint: Place | None = None,
    config: Place | None = None,
    workers: int | None = None,
    threads: int = 1,
    time_limit: float | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    continue_anyway: bool = False,
    report: bool = False,
    progress: bool = True,
    stop_after_failures: int = 20,
    **settings: Any,
) -> Labels:
    """Find every object's mask in images, one SA-1B annotation file for each image.

    The same job as `everything label`: images that are done are skipped, so that calling it again
    resumes.

    Args:
        images: An image, a folder at any depth, a glob, a URL, a list file (.parquet, .csv, .jsonl,
            .txt), a .tar or .zip archive; or several of them.
        out: The results folder or bucket.
        variant: A name that `list_variants` has; the bundled model by default.
        sampler: A name that `list_samplers` has; grid-32 by default.
        checkpoint: The variant's weights: a path or URL instead of the official download.
        config: A recipe: a YAML file or a name that `everything configs` lists.
        workers: Worker processes; 1 is this process. None: one per CPU core, as far as memory and
            the number of images allow, on all GPUs.
        threads: PyTorch threads per process.
        time_limit: Seconds an image may take before it counts as failed.
        limit: Only the first so many images.
        overwrite: Remove the results in `out` first; other files there are kept.
        continue_anyway: Label the remaining images although `out` has results of other settings.
        report: Also write the page that shows the masks, `out/report`.
        progress: Show a progress bar on a terminal or in a notebook.
        stop_after_failures: Stop if the first so many images all fail for the same reason; 0:
            never.
        **settings: Any setting by its own name, such as `pred_iou_thresh=0.7`.

    Returns:
        The results, as `read_labels` opens them. `summary` has counts of images (done, failed,
        skipped) and masks, and seconds by stage.

    Raises:
        EverythingError: In one line what is wrong: a setting, an input, weights, the folder.

    Example:
        >>> labels = label("photos", "labels", sampler="grid-16", pred_iou_thresh=0.6)
        >>> labels.summary.done, labels.summary.failed
        (2, 0)
        >>> [segments.name for segments in labels]
        ['chelsea.png', 'coffee.png']
        >>> label("photos", "labels", sampler="grid-16", pred_iou_thresh=0.6).summary.skipped
        2
    """
    from everything.core.console import progress_console
    from everything.io.images.decode import Limits
    from everything.io.images.listing import list_images
    from everything.jobs.label import label as run_job
    from everything.jobs.labelled_folder import Labels
    from everything.recipes.resolve import resolve

    home = _located(out)
    inputs = [_located(one) for one in _several(images)]
    recipe = resolve(variant, _text(checkpoint), sampler, _text(config), (), settings)
    root = home.absolute() if isinstance(home, Path) else home
    summary = run_job(
        lambda: islice(list_images(inputs, home), limit),
        root,
        recipe,
        workers=workers,
        threads=threads,
        overwrite=overwrite,
        continue_anyway=continue_anyway,
        preview=report,
        limits=Limits(max_pixels=recipe.reading.max_pixels, max_seconds=time_limit),
        console=progress_console(quiet=not progress),
        stop_after_failures=stop_after_failures,
    )
    return Labels(root, summary=summary)


def read_labels(labels: Place, images: Place | None = None) -> Labels:
    """Open a results folder, or a folder in SA-1B's format.

    Args:
        labels: What `everything label` wrote, on disk or in a bucket, also while the job runs; or
            a folder of SA-1B JSON files.
        images: Where the images are, if they have moved.

    Returns:
        The results; one image's annotations are in memory at a time.

    Raises:
        InputError: If nothing is there.

    Example:
        >>> labels = read_labels("labels")
        >>> for segments in labels:
        ...     print(segments.name, segments.size, len(segments) > 5)
        chelsea.png (85, 128) True
        coffee.png (85, 128) True
        >>> sorted(labels["chelsea.png"].to_sa1b()[0])[:3]
        ['area', 'bbox', 'crop_box']
    """
    from everything.jobs.labelled_folder import Labels

    return Labels(_located(labels), None if images is None else _located(images))


def write_report(
    labels: Place | Iterable[Place],
    out: Place | None = None,
    *,
    images: Place | None = None,
    limit: int | None = None,
) -> Path:
    """Write the page that shows the masks of one results folder, or of several side by side.

    Args:
        labels: Results folders, or folders in SA-1B's format.
        out: The page's folder; `labels/report` by default for a single one.
        images: Where the images are, if they have moved.
        limit: Only the first so many images.

    Returns:
        The page's path; it opens from disk.

    Raises:
        EverythingError: If a folder has no results, or `out` holds something else.

    Example:
        >>> write_report("labels", "page").name
        'index.html'
    """
    from everything.report.build import write_report as write

    places = [_located(one) for one in _several(labels)]
    home = None if images is None else _located(images)
    return write(places, None if out is None else Path(out), photos=home, limit=limit)


def evaluate_labels(
    labels: Place,
    truth: Place,
    *,
    split: str | None = None,
    min_area: int = 100,
    boundaries: bool = True,
    workers: int = 1,
) -> Scores:
    """Score masks against ground truth.

    Args:
        labels: A results folder, or a folder in SA-1B's format.
        truth: A COCO or LVIS file, a folder of annotation files, or label maps.
        split: The part of a data pack that has parts, such as "val".
        min_area: Ignore ground-truth segments of label maps smaller than this (px).
        boundaries: Also the boundary F, where the ground truth covers whole images; it takes
            seconds per image.
        workers: Processes that compute the boundary F; with more than one, the calling script needs
            the usual `if __name__ == "__main__":`.

    Returns:
        Average recall, covering, boundary F; `table()` prints them, `to_json()` has them all.

    Raises:
        InputError: If images of the ground truth are not labelled, or of another size.

    Example:
        >>> scores = evaluate_labels("labels", "labels", boundaries=False)
        >>> round(scores.covering, 3)  # of annotations with themselves
        1.0
    """
    from everything.evaluation.mask_scores import evaluate

    return evaluate(
        _located(labels),
        Path(truth),
        split,
        min_area=min_area,
        boundaries=boundaries,
        workers=workers,
    )


def export_labels(
    labels: Place,
    to: str,
    out: Place,
    *,
    images: Place | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Fidelity:
    """Write annotations in another tool's format.

    Args:
        labels: A results folder, or a folder in SA-1B's format.
        to: The format: coco, yolo-seg, label-studio, cvat, voc-png, panoptic, geojson, mask-png
            or datasets.
        out: The export's folder, written whole or not at all.
        images: Where the images are, if they have moved.
        progress: Called with images done and images in all.
        **options: As the options of `everything export`: level, polygons, tolerance, overwrite, …

    Returns:
        How much of the masks the format's readers will see: counts, and IoU.

    Raises:
        EverythingError: In one line what is wrong.

    Example:
        >>> labels = read_labels("labels")
        >>> kept = export_labels(labels, "coco", "coco")
        >>> kept.masks == sum(len(segments) for segments in labels)
        True
    """
    from everything.export.run import export

    home = None if images is None else _located(images)
    return export(_located(labels), to, Path(out), home=home, progress=progress, **options)


def import_labels(
    sources: Place | Iterable[Place], out: Place, *, images: Place | None = None
) -> Imported:
    """Bring other tools' annotations into a results folder, for report, evaluate and export.

    Args:
        sources: SA-1B tar archives, folders of them or of JSON files, COCO files, data.yaml of
            YOLO-seg, annotations.xml of CVAT for images.
        out: The results folder or bucket.
        images: Where the images are; those in archives are unpacked there.

    Returns:
        How many images and masks came in, and what could not be read, with reasons.

    Raises:
        EverythingError: If a source does not exist or is none of these, or `out` cannot be written.

    Example:
        >>> import_labels("coco/annotations/instances_default.json", "imported").failed
        0
    """
    from everything.jobs.import_labels import import_labels as run_import

    paths = [Path(one) for one in _several(sources)]
    return run_import(paths, _located(out), None if images is None else Path(images))


def _several(places: Place | Iterable[Place]) -> list[Place]:
    return [places] if isinstance(places, str | PathLike) else list(places)


def _located(place: Place) -> Location:
    from everything.io.storage.locations import located

    return located(fspath(place))


def _text(place: Place | None) -> str | None:
    return None if place is None else fspath(place)
