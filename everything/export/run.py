"""`export`: from a folder of annotations to another tool's format, written atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from everything.config import Level
from everything.core.file_names import printable
from everything.errors import ConfigError, StoreError, reason_of
from everything.export import EXPORTERS, format_named
from everything.export.classes import Classes
from everything.export.fidelity import Fidelity
from everything.export.writer import (
    MAX_PIXELS,
    ExportJob,
    ImagePlacement,
    LabelledImage,
    labelled_images,
)
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Results
from everything.io.storage.local import UNFINISHED
from everything.io.storage.locations import Location
from everything.io.storage.output_folder import OutputFolder

_COMPLETE = "export.json"  # is written last
Progress = Callable[[int, int], None]


def export(
    labels: Location,
    to: str,
    out: Path,
    *,
    photos: ImagePlacement | None = None,
    home: Location | None = None,
    level: Level = "all",
    keep: MaskFilter | None = None,
    polygons: bool = False,
    tolerance: float = 0.0,
    url: str = "/data/local-files/?d=",
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Fidelity:
    """Write annotations in another tool's format, holding one image's masks at a time.

    Args:
        labels: A results folder of `everything label`, or a folder of SA-1B JSON files.
        to: Name of the format, one of EXPORTERS, in any case, or one of ALIASES.
        out: Output folder, which appears when the export is complete. `export.json` in it holds
            what is returned.
        photos: Whether the images are placed in `out`; None: as the format needs.
        home: Folder of the images, if they have moved.
        level: Export only masks of this level (everything/core/mask_hierarchy.py).
        keep: Thresholds of the masks that are exported; a level of its own counts if `level` is
            "all".
        polygons: COCO only: polygons instead of run-length codes.
        tolerance: How far polygons may deviate from the outline to have fewer corners, px.
        url: Label Studio only: URL prefix of the images.
        overwrite: Replace the files of an earlier export in `out`; others are never changed.
        max_pixels: Leave out larger images where the format draws whole images, and masks with
            larger boxes where it draws masks, px. COCO's run lengths need no limit.
        progress: Called with the number of images done and of all images.

    Returns:
        How closely the export holds the masks.

    Raises:
        ConfigError: If the format or a setting does not exist, or a plugin cannot be used.
        InputError: If there are no results.
        StoreError: If `out` cannot be written or holds something else.
    """
    to = format_named(to)
    if to not in EXPORTERS:
        raise ConfigError(f"{to}: unknown format: choose one of {', '.join(EXPORTERS)}")
    if tolerance < 0:
        raise ConfigError(f"tolerance {tolerance} px: give 0 or more")
    if polygons and to != "coco":
        raise ConfigError(f"--polygons: applies to coco only, not to {to}: drop it")
    exporter = EXPORTERS[to]
    keep = keep or MaskFilter()
    keep = keep if level == "all" else replace(keep, level=level)
    results = Results(labels, home, keep)
    out = out.absolute()
    folder = OutputFolder(out, "export")
    _check_output(folder, overwrite)
    try:
        with _temporary_folder(folder) as partial:
            job = ExportJob(
                partial, photos or exporter.images, polygons, tolerance, url,
                classes=Classes(results.categories),
            )  # fmt: skip
            draws = "masks" if polygons else exporter.draws
            images = labelled_images(results, job.fidelity, draws, max_pixels)
            if not exporter.crowds:
                images = _count_crowds(images, job.fidelity)
            exporter.load()(_with_progress(images, len(results), progress), job)
            about = {"format": to, "labels": printable(str(labels))} | job.fidelity.to_json()
            text = json.dumps(about, indent=2) + "\n"
            (partial / _COMPLETE).write_text(text, encoding="ascii")
            _place(partial, folder)
    except OSError as error:
        raise StoreError(
            f"{printable(out)}: cannot be written ({error.strerror or reason_of(error)}): "
            "give another --out"
        ) from error
    return replace(job.fidelity)


def _check_output(folder: OutputFolder, overwrite: bool) -> None:
    where = printable(folder.root)
    if folder.is_empty():
        return
    if not folder.is_own():
        if (folder.root / _COMPLETE).is_file():
            raise StoreError(
                f"{where}: not empty and not an export, or one of a version that kept no list of "
                "its files: give another --out, or empty it"
            )
        raise StoreError(f"{where}: not empty and not an export: give another --out, or empty it")
    if not overwrite and (folder.root / _COMPLETE).exists():
        raise StoreError(
            f"{where}: holds an earlier export: give another --out, or add --overwrite"
        )


@contextmanager
def _temporary_folder(folder: OutputFolder) -> Iterator[Path]:
    """Make a folder on the disk of the export; it is deleted in the end.

    It is in the export's folder if that exists, else beside it, under a name that is nobody's.
    """
    out = folder.root
    if out.exists():
        folder.claim()
        where, prefix = out / UNFINISHED, "export-"
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        where, prefix = out.parent, f".{out.name}."
    try:
        with TemporaryDirectory(prefix=prefix, dir=where, ignore_cleanup_errors=True) as home:
            partial = Path(home, "export")  # with the permissions of a new folder
            partial.mkdir()
            yield partial
    finally:
        folder.finish()


def _place(partial: Path, folder: OutputFolder) -> None:
    """Move a complete export to its folder, where it replaces the files of an earlier one."""
    names = [path.relative_to(partial).as_posix() for path in partial.rglob("*") if _is_file(path)]
    names.sort(key=lambda name: (name == _COMPLETE, name))
    if not folder.root.exists():
        new = OutputFolder(partial, "export")
        new.claim()
        new.list(names)
        new.finish()
        partial.rename(folder.root)
        return
    folder.begin()
    for name in names:
        folder.move_in(partial / name, name)


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _count_crowds(images: Iterator[LabelledImage], fidelity: Fidelity) -> Iterator[LabelledImage]:
    for image in images:
        fidelity.crowds += sum(bool(mask.get("iscrowd")) for mask in image.annotations)
        yield image


def _with_progress(
    images: Iterator[LabelledImage], total: int, progress: Progress | None
) -> Iterator[LabelledImage]:
    done = 0
    for image in images:
        yield image
        done = image.number
        if progress is not None:
            progress(done, total)
    if progress is not None and done < total:  # the last ones were left out
        progress(total, total)
