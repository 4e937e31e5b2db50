"""EXPORTERS: every format that labels can be handed over in, by name.

To add one: a file here with `write(photos, job)` (everything/export/writer.py), a line below, its
reader in tests/export.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from everything.config import Level
from everything.core.file_names import printable
from everything.errors import ConfigError, StoreError
from everything.export.fidelity import Tally
from everything.export.writer import Job, Labelled, Placing, Write, labelled
from everything.io.results.reader import Results
from everything.io.storage.locations import Location

_MARK = "export.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exporter:
    """A format. where: the module of its `write`. photos: what becomes of photos if not said."""

    where: str
    summary: str
    photos: Placing = "none"

    def load(self) -> Write:
        """Return the function that writes it."""
        write: Write = import_module(self.where).write
        return write


EXPORTERS: dict[str, Exporter] = {
    "coco": Exporter("everything.export.coco", "one JSON; run lengths, exact, or polygons"),
    "yolo-seg": Exporter(
        "everything.export.yolo_seg", "ultralytics' trainer; outlines with bridges", "link"
    ),
    "label-studio": Exporter(
        "everything.export.label_studio", "tasks with brush predictions, exact"
    ),
    "cvat": Exporter("everything.export.cvat", "CVAT for images 1.1, masks, exact"),
    "voc-png": Exporter(
        "everything.export.voc_png", "Pascal VOC; no overlaps, 254 masks a photo", "link"
    ),
    "panoptic": Exporter("everything.export.panoptic", "COCO panoptic; no overlaps"),
    "geojson": Exporter("everything.export.geojson", "one file a photo, pixel polygons with holes"),
}


def export(
    labels: Location,
    to: str,
    out: Path,
    *,
    photos: Placing | None = None,
    home: Location | None = None,
    level: Level = "all",
    polygons: bool = False,
    tolerance: float = 0.0,
    url: str = "/data/local-files/?d=",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Tally:
    """Write a label folder in another tool's format and return what was kept of it.

    labels: what `everything label` wrote, or SA-1B's JSONs. to: of EXPORTERS. out: a folder that
    appears when all is written; `export.json` in it is the tally. photos: whether they are placed
    where the format has them. home: where the photos are, if they have moved. level: only these
    masks (everything/core/mask_hierarchy.py). polygons, tolerance, url: see Job. overwrite:
    replace an export that is there, and nothing else. progress: called with photos done and photos
    in all. One photo's masks are held at a time.

    Raises ConfigError for a format or setting that does not exist, InputError for labels that
    cannot be read, StoreError if `out` cannot be written or is something else.
    """
    if to not in EXPORTERS:
        raise ConfigError(f"{to}: no such format: take one of {', '.join(EXPORTERS)}")
    if tolerance < 0:
        raise ConfigError(f"tolerance {tolerance} px: give 0 or more")
    if polygons and to != "coco":
        raise ConfigError(f"{to} has one way to write masks: leave --polygons out")
    results = Results(labels, home)
    _check_place(out, overwrite)
    partial = out.with_name(f".{out.name}.partial")
    job = Job(partial, photos or EXPORTERS[to].photos, polygons, tolerance, url)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        EXPORTERS[to].load()(
            _counted(labelled(results, job.tally, level), len(results), progress), job
        )
        about = {"format": to, "labels": printable(str(labels))} | job.tally.to_json()
        (partial / _MARK).write_text(json.dumps(about, indent=2) + "\n", encoding="ascii")
        _move(partial, out)
    except OSError as error:
        raise StoreError(
            f"{printable(out)}: cannot be written ({error.strerror or error}): give another --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(job.tally)


def _check_place(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / _MARK).is_file():
        raise StoreError(f"{printable(out)}: is not empty and no export: give another --out")
    if not overwrite:
        raise StoreError(f"{printable(out)}: holds an export: give another --out, or --overwrite")


def _move(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _counted(
    photos: Iterator[Labelled], total: int, progress: Progress | None
) -> Iterator[Labelled]:
    for photo in photos:
        yield photo
        if progress is not None:
            progress(photo.number, total)
