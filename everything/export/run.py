"""`export`: from a folder of annotations to another tool's format, written atomically."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from everything.config import Level
from everything.core.file_names import printable
from everything.errors import ConfigError, StoreError, reason_of
from everything.export import EXPORTERS
from everything.export.classes import Classes
from everything.export.fidelity import Fidelity
from everything.export.writer import ExportJob, ImagePlacement, LabelledImage, labelled_images
from everything.io.results.reader import Results
from everything.io.storage.locations import Location

_MARKER = "export.json"  # says that a folder is an export
Progress = Callable[[int, int], None]


def export(
    labels: Location,
    to: str,
    out: Path,
    *,
    photos: ImagePlacement | None = None,
    home: Location | None = None,
    level: Level = "all",
    polygons: bool = False,
    tolerance: float = 0.0,
    url: str = "/data/local-files/?d=",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Fidelity:
    """Write annotations in another tool's format, holding one image's masks at a time.

    Args:
        labels: A results folder of `everything label`, or a folder of SA-1B JSON files.
        to: Name of the format, one of EXPORTERS.
        out: Output folder, which appears when the export is complete. `export.json` in it holds
            what is returned.
        photos: Whether the images are placed in `out`; None: as the format needs.
        home: Folder of the images, if they have moved.
        level: Export only masks of this level (everything/core/mask_hierarchy.py).
        polygons: COCO only: polygons instead of run-length codes.
        tolerance: How far polygons may deviate from the outline to have fewer corners, px.
        url: Label Studio only: URL prefix of the images.
        overwrite: Replace an earlier export in `out`; any other folder is never replaced.
        progress: Called with the number of images done and of all images.

    Returns:
        How closely the export holds the masks.

    Raises:
        ConfigError: If the format or a setting does not exist, or a plugin cannot be used.
        InputError: If the annotations cannot be read.
        StoreError: If `out` cannot be written or holds something else.
    """
    if to not in EXPORTERS:
        raise ConfigError(f"{to}: unknown format: choose one of {', '.join(EXPORTERS)}")
    if tolerance < 0:
        raise ConfigError(f"tolerance {tolerance} px: give 0 or more")
    if polygons and to != "coco":
        raise ConfigError(f"--polygons: applies to coco only, not to {to}: drop it")
    exporter = EXPORTERS[to]
    results = Results(labels, home)
    _check_output(out, overwrite)
    partial = out.with_name(f".{out.name}.partial")
    job = ExportJob(
        partial, photos or exporter.images, polygons, tolerance, url,
        classes=Classes(results.categories),
    )  # fmt: skip
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        images = labelled_images(results, job.fidelity, level)
        if not exporter.crowds:
            images = _count_crowds(images, job.fidelity)
        exporter.load()(_with_progress(images, len(results), progress), job)
        about = {"format": to, "labels": printable(str(labels))} | job.fidelity.to_json()
        (partial / _MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="ascii")
        _move(partial, out)
    except OSError as error:
        raise StoreError(
            f"{printable(out)}: cannot be written ({error.strerror or reason_of(error)}): "
            "give another --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(job.fidelity)


def _check_output(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / _MARKER).is_file():
        raise StoreError(
            f"{printable(out)}: not empty and not an export: give another --out, or empty it"
        )
    if not overwrite:
        raise StoreError(
            f"{printable(out)}: holds an earlier export: give another --out, or add --overwrite"
        )


def _move(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _count_crowds(images: Iterator[LabelledImage], fidelity: Fidelity) -> Iterator[LabelledImage]:
    for image in images:
        fidelity.crowds += sum(bool(mask.get("iscrowd")) for mask in image.annotations)
        yield image


def _with_progress(
    images: Iterator[LabelledImage], total: int, progress: Progress | None
) -> Iterator[LabelledImage]:
    for image in images:
        yield image
        if progress is not None:
            progress(image.number, total)
