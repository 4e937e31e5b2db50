"""Import annotations of other tools into a results folder: SA-1B, COCO, YOLO-seg, CVAT.

An annotation without a score gets 1.0, and one without points an empty list. A crowd keeps
`iscrowd`, and a class its name as `category`. What cannot be used is counted by reason.
"""

from __future__ import annotations

import logging
import lzma
import re
import socket
import sqlite3
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from everything.config import IMPORTED, Recipe
from everything.core import rle
from everything.core.file_names import image_id, is_inside, printable
from everything.core.geometry import Size
from everything.core.sa1b import Annotation, check_annotations
from everything.errors import EverythingError, InputError, StoreError, reason_of
from everything.io.datasets.annotations import AnnotatedImage
from everything.io.datasets.coco import CocoReader
from everything.io.datasets.cvat import CvatReader
from everything.io.datasets.ground_truth import is_sa1b
from everything.io.datasets.image_names import ImageFinder
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.datasets.sa1b_folder import Sa1bFolder
from everything.io.datasets.sa1b_tar import Sa1bTar
from everything.io.datasets.yolo_seg import YoloReader
from everything.io.results.categories import add_categories
from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.io.storage.locations import Location
from everything.jobs.status import JobState, write_state

_KINDS = (
    "SA-1B tars or a folder of SA-1B JSON files, a COCO file, data.yaml of a YOLO-seg data set, or "
    "annotations.xml of CVAT for images"
)
_TARS = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)$", re.IGNORECASE)
Progress = Callable[[int, int], None]
_log = logging.getLogger(__name__)


@dataclass
class Imported:
    """What was imported.

    Attributes:
        photos: Number of images.
        masks: Number of masks.
        skipped: Number of images that were there before.
        unpacked: Number of images that were unpacked.
        not_unpacked: Number of files in tars that are neither annotations nor images.
        tally: What could not be read, was left out, mended or guessed.
    """

    photos: int = 0
    masks: int = 0
    skipped: int = 0
    unpacked: int = 0
    not_unpacked: int = 0
    tally: ReadingTally = field(default_factory=ReadingTally)

    @property
    def failed(self) -> int:
        """Number of images and files that could not be read or written."""
        return self.tally.bad_images

    @property
    def failures(self) -> list[str]:
        """What failed or was left out, and why; the first twenty."""
        return self.tally.examples

    def to_json(self) -> dict[str, Any]:
        """Return the counts and failures as JSON."""
        return self._counts() | {
            "failures": self.failures,
            "left_out": dict(self.tally.left_out),
            "mended": dict(self.tally.mended),
        }

    def _counts(self) -> dict[str, int]:
        return {
            "photos": self.photos,
            "masks": self.masks,
            "skipped": self.skipped,
            "unpacked": self.unpacked,
            "failed": self.failed,
            "not_unpacked": self.not_unpacked,
            "masks_left_out": self.tally.left_out.total(),
            "photos_not_found": self.tally.images_not_found,
        }

    def table(self) -> Table:
        """Return the counts as a table for the terminal."""
        table = Table(box=None, pad_edge=False)
        counts = {name: f"{value:,}" for name, value in self._counts().items()}
        for name in counts:
            table.add_column(name.replace("_", " ").replace("photos", "images"), justify="right")
        table.add_row(*counts.values())
        return table


def import_labels(
    sources: Sequence[Path],
    out: Location,
    photos: Path | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Import SA-1B tars or folders, COCO files, YOLO-seg or CVAT data sets into a results folder.

    What cannot be read is counted with its reason and stops nothing. Images that were imported
    before are skipped.

    Args:
        sources: SA-1B tars, folders of them, folders of SA-1B JSON files, COCO files, data.yaml
            of YOLO-seg, annotations.xml of CVAT for images, or folders with one of these two; all
            of one kind.
        out: the results folder.
        photos: folder of the images. Images inside tars are unpacked into it, or not at all if it
            is not given.
        progress: called with the number of bytes read and in total.

    Returns:
        What was imported.

    Raises:
        InputError: if a source does not exist, is of no such kind, or of another one.
        StoreError: if results cannot be written, as in `label`.
    """
    files = list(_files(sources))
    kinds = sorted({_kind_of(file) for file in files})
    if len(kinds) > 1:
        raise InputError(
            f"{' and '.join(kinds)} cannot share a results folder: import them separately"
        )
    kind = kinds[0]
    recipe = Recipe(
        variant=kind.removesuffix(" folder"),
        sampler={"name": IMPORTED},
        version=version("segevery"),
        weights="",
    )
    store, done, began = Store(out, recipe), Imported(), time.time()
    total, before = sum(map(_bytes_of, files)), 0
    with store.opened(ways_out=""), closing(_Names()) as names:
        manifest = Manifest(store.folder)
        for file in files:
            report = _offset(before, total, progress)
            for image in _READERS[kind](file, photos, done, report, store):
                _keep(image, store, manifest, done, names)
            report(_bytes_of(file))
            before += _bytes_of(file)
        manifest.compact()
        images = done.photos + done.skipped + done.failed
        write_state(store.folder, JobState(images, began, time.time()))
    return done


class _Names:
    """The names of one import, on disk, since there may be millions."""

    def __init__(self) -> None:
        self._data = sqlite3.connect("")
        self._data.execute("create table name (name text primary key) without rowid")

    def add(self, name: str) -> bool:
        """Remember a name; tell whether it is new."""
        key = name.encode("utf-8", "surrogatepass")
        insert = "insert or ignore into name values (?)"
        return self._data.execute(insert, (key,)).rowcount == 1

    def close(self) -> None:
        self._data.close()


def _offset(before: int, total: int, progress: Progress | None) -> Callable[[int], None]:
    def report(read: int) -> None:
        if progress is not None:
            progress(before + read, total)

    return report


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from _files_of(source)
        elif source.is_file():
            yield source
        else:
            raise InputError(f"{printable(source)}: no such file: give {_KINDS}")


def _files_of(folder: Path) -> Iterator[Path]:
    tars = sorted(file for file in folder.iterdir() if _TARS.search(file.name))
    sets = [folder / name for name in ("data.yaml", "annotations.xml") if (folder / name).is_file()]
    if tars or sets:
        yield from tars or sets
    elif is_sa1b(folder):
        yield folder
    else:
        raise InputError(f"{printable(folder)}: nothing to import: give {_KINDS}")


def _kind_of(file: Path) -> str:
    if file.is_dir():
        return "sa-1b folder"
    if _TARS.search(file.name):
        return "sa-1b"
    found = {".yaml": "yolo-seg", ".yml": "yolo-seg", ".xml": "cvat"}.get(file.suffix.lower())
    return found or ("sa-1b" if _is_tar(file) else "coco")


def _is_tar(file: Path) -> bool:
    try:
        return tarfile.is_tarfile(file)
    except (OSError, EOFError, lzma.LZMAError, zlib.error):  # damaged: its reader says so
        return False


def _bytes_of(source: Path) -> int:
    files = source.rglob("*.json") if source.is_dir() else [source]
    return sum(file.stat().st_size for file in files)


def _keep(
    image: AnnotatedImage, store: Store, manifest: Manifest, done: Imported, names: _Names
) -> None:
    """Write the result and the row of an image, or count the reason why not."""
    try:
        if not is_inside(image.name):
            raise InputError("its name leads out of the folder: rename it")
        if not names.add(image.name):
            raise InputError("its annotations were imported already: merge the two, or rename one")
        if store.get(image.name) is not None:
            done.skipped += 1
            return
        records = [_record(annotation, image.size) for annotation in image.annotations]
        check_annotations(records, image.size)  # nothing is written that cannot be read
        stamp = store.put(image.name, image.size, records, dict)
    except StoreError:
        raise
    except (EverythingError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        done.tally.refuse_image(image.name, reason_of(error))
        return
    now = time.time()
    row = Row(
        name=image.name,
        status="done",
        image_id=image_id(image.name),
        digest=store.digest,
        host=socket.gethostname(),
        attempt=1,
        started=now,
        finished=now,
        folder=None if image.folder is None else str(image.folder.resolve()),
        width=image.size[1],
        height=image.size[0],
        counts={"masks": len(records)},
        bytes=stamp.size,
        mtime_ns=stamp.mtime_ns,
    )
    manifest.append(row)
    _log.debug("%s: %d masks", printable(image.name), len(records))
    done.photos += 1
    done.masks += len(records)


def _record(found: Annotation, size: Size) -> Annotation:
    """Return an annotation with all of SA-1B's fields."""
    code = found["segmentation"]
    x, y, w, h = rle.boxes([code])[0].tolist()
    record = {
        "id": found["id"],
        "segmentation": code,
        "bbox": found["bbox"] if "crop_box" in found else [x, y, max(0, w - 1), max(0, h - 1)],
        "area": int(rle.areas([code]).item()),
        "predicted_iou": found.get("predicted_iou", found.get("score", 1.0)),
        "stability_score": found.get("stability_score", 1.0),
        "crop_box": found.get("crop_box", [0, 0, size[1], size[0]]),
        "point_coords": found.get("point_coords", []),
    }
    if found["iscrowd"]:
        record["iscrowd"] = 1
    return record | {name: found[name] for name in ("category", "parent_id") if name in found}


def _import_tar(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None], store: Store
) -> Iterator[AnnotatedImage]:
    tar = Sa1bTar(file, photos, done.tally, report)
    try:
        yield from tar
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        done.tally.refuse_image(str(file), f"{reason_of(error)}: get another copy of it")
    done.unpacked += tar.unpacked
    done.not_unpacked += tar.not_unpacked


def _import_coco(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None], store: Store
) -> Iterator[AnnotatedImage]:
    reader = CocoReader(file, ImageFinder(file, photos), done.tally, report)
    for number, image in enumerate(reader):
        if number == 0:
            add_categories(store.folder, reader.categories)
        # An image that is not there yet may come to the folder that was named.
        yield image if image.folder or not photos else replace(image, folder=photos)


def _import_yolo(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None], store: Store
) -> Iterator[AnnotatedImage]:
    reader = YoloReader(file, photos, done.tally, report)
    for number, image in enumerate(reader):
        if number == 0:
            add_categories(store.folder, reader.categories)
        yield image


def _import_cvat(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None], store: Store
) -> Iterator[AnnotatedImage]:
    reader = CvatReader(file, ImageFinder(file, photos), done.tally, report)
    for number, image in enumerate(reader):
        if number == 0:
            add_categories(store.folder, reader.categories)
        yield image if image.folder or not photos else replace(image, folder=photos)


def _import_folder(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None], store: Store
) -> Iterator[AnnotatedImage]:
    yield from Sa1bFolder(file, photos, done.tally, report)


_READERS = {
    "sa-1b": _import_tar,
    "sa-1b folder": _import_folder,
    "coco": _import_coco,
    "yolo-seg": _import_yolo,
    "cvat": _import_cvat,
}
