"""Import annotations of other tools, SA-1B tars (streamed) and COCO files, into a results folder.

An annotation without a score gets 1.0, and one without points an empty list. A crowd keeps
`iscrowd`, and a class its name as `category`.
"""

from __future__ import annotations

import json
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from everything.config import Recipe
from everything.core import rle
from everything.core.file_names import image_id, is_inside, printable
from everything.core.geometry import Size
from everything.core.rle import compressed
from everything.core.sa1b import Annotation, size_of
from everything.errors import EverythingError, InputError, StoreError, reason_of
from everything.io.datasets.coco import image_folder, read_coco
from everything.io.results.manifest import Manifest, Row
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.io.storage.locations import Location
from everything.jobs.status import JobState, write_state

_MOST = 512 * 2**20  # bytes of one annotation file; SA-1B's largest has some 2 MiB
_SUFFIX = ".json"
_Tree = dict[str, Any]
Progress = Callable[[int, int], None]


class ImportedImage(NamedTuple):
    """An image with its annotations as they were read, and the folder of the image."""

    name: str
    size: Size
    annotations: list[_Tree]
    home: Path | None


@dataclass
class Imported:
    """What was imported. skipped: imported before. failures: what could not be read, and why."""

    photos: int = 0
    masks: int = 0
    skipped: int = 0
    unpacked: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """Count a failure; the first twenty reasons are kept."""
        self.failed += 1
        if len(self.failures) < 20:
            self.failures.append(reason)

    def to_json(self) -> _Tree:
        """Return the counts and failures as JSON."""
        return dict(vars(self))

    def table(self) -> Table:
        """Return the counts as a table for the terminal."""
        table = Table(box=None, pad_edge=False)
        counts = {name: f"{value:,}" for name, value in vars(self).items() if name != "failures"}
        for name in counts:
            table.add_column(name, justify="right")
        table.add_row(*counts.values())
        return table


def import_labels(
    sources: Sequence[Path],
    out: Location,
    photos: Path | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Import SA-1B tars, folders of them, or COCO files into a results folder.

    What cannot be read is counted with its reason and stops nothing. Images that were imported
    before are skipped.

    Args:
        sources: tars and folders of tars, or COCO files.
        out: the results folder.
        photos: folder of the images. Images inside tars are unpacked into it, or not at all if it
            is not given.
        progress: called with the number of bytes read and in total.

    Returns:
        What was imported.

    Raises:
        InputError: if a source does not exist or is neither kind.
        StoreError: if results cannot be written, as in `label`.
    """
    files = list(_files(sources))
    tars = [file for file in files if tarfile.is_tarfile(file)]
    if tars and len(tars) < len(files):
        raise InputError(
            "tars and COCO files cannot share a results folder: import them separately"
        )
    kind = "sa-1b" if tars else "coco"
    recipe = Recipe(
        variant=kind, sampler={"name": "imported"}, version=version("segevery"), weights=""
    )
    store, done, began = Store(out, recipe), Imported(), time.time()
    total, before = sum(file.stat().st_size for file in files), 0
    with store.opened():
        manifest = Manifest(store.folder)
        for file in files:
            report = _offset(before, total, progress)
            found = _tar(file, photos, done, report) if tars else _coco(file, photos, done, report)
            try:
                for photo in found:
                    _keep(photo, store, manifest, done)
            except (tarfile.TarError, EOFError, OSError) as error:
                done.fail(
                    f"{printable(file)}: {printable(reason_of(error))}: get another copy of it"
                )
            report(file.stat().st_size)
            before += file.stat().st_size
        manifest.compact()
        images = done.photos + done.skipped + done.failed
        write_state(store.folder, JobState(images, began, time.time()))
    return done


def _offset(before: int, total: int, progress: Progress | None) -> Callable[[int], None]:
    def report(read: int) -> None:
        if progress is not None:
            progress(before + read, total)

    return report


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            tars = sorted(source.glob("*.tar"))
            if not tars:
                raise InputError(f"{printable(source)}: has no .tar: give tars or a COCO file")
            yield from tars
        elif source.is_file():
            yield source
        else:
            raise InputError(f"{printable(source)}: no such file: give SA-1B tars or a COCO file")


def _keep(photo: ImportedImage, store: Store, manifest: Manifest, done: Imported) -> None:
    """Write the result and the row of an image, or count the reason why not."""
    try:
        if not is_inside(photo.name):
            raise InputError(f"{printable(photo.name)}: leads out of the folder: rename it")
        if store.get(photo.name) is not None:
            done.skipped += 1
            return
        records = [_record(*item, photo.size) for item in enumerate(photo.annotations)]
        stamp = store.put(photo.name, photo.size, records, dict)
    except StoreError:
        raise
    except (EverythingError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        done.fail(f"{printable(photo.name)}: {printable(reason_of(error))}")
        return
    now = time.time()
    row = Row(
        name=photo.name,
        status="done",
        image_id=image_id(photo.name),
        digest=store.digest,
        host=socket.gethostname(),
        attempt=1,
        started=now,
        finished=now,
        folder=None if photo.home is None else str(photo.home.resolve()),
        width=photo.size[1],
        height=photo.size[0],
        counts={"masks": len(records)},
        bytes=stamp.size,
        mtime_ns=stamp.mtime_ns,
    )
    manifest.append(row)
    done.photos += 1
    done.masks += len(records)


def _record(row: int, found: _Tree, size: Size) -> Annotation:
    code = compressed(found["segmentation"], size)
    x, y, w, h = rle.boxes([code])[0].tolist()
    record = {
        "id": found.get("id", row),
        "segmentation": code,
        "bbox": found["bbox"] if "crop_box" in found else [x, y, max(0, w - 1), max(0, h - 1)],
        "area": int(rle.areas([code]).item()),
        "predicted_iou": found.get("predicted_iou", found.get("score", 1.0)),
        "stability_score": found.get("stability_score", 1.0),
        "crop_box": found.get("crop_box", [0, 0, size[1], size[0]]),
        "point_coords": found.get("point_coords", []),
    }
    if found.get("iscrowd"):
        record["iscrowd"] = 1
    return record | {name: found[name] for name in ("category", "parent_id") if name in found}


def _tar(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None]
) -> Iterator[ImportedImage]:
    """Read a tar once, from front to back, one member at a time.

    Raises tarfile.ReadError at its end if the tar is truncated, which tarfile may not notice.
    """
    home = None if photos is None else Folder(photos)
    if home is not None:
        home.create()
    with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            report(stream.tell())
            name = member.name.removeprefix("./")
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                continue  # folders; links are never followed
            if not is_inside(name):
                done.fail(f"{printable(file)}: {printable(member.name)} leads out of the folder")
            elif name.endswith(_SUFFIX):
                found = _member(content, member, done, photos)
                if found is not None:
                    yield found
            elif home is not None and home.stamp(name) is None:
                home.write(name, iter(partial(content.read, 2**20), b""))
                done.unpacked += 1
        stream.seek(max(0, file.stat().st_size - 2 * tarfile.BLOCKSIZE))
        if any(stream.read()):
            raise tarfile.ReadError("the tar is truncated")


def _member(
    content: Any, member: tarfile.TarInfo, done: Imported, photos: Path | None
) -> ImportedImage | None:
    """Read one SA-1B JSON file, or count why it cannot be read. The image is beside it."""
    try:
        if member.size > _MOST:
            raise ValueError(f"{member.size:,} bytes are over the limit of {_MOST:,}")
        tree = json.loads(content.read())
        image = tree["image"]
        size = size_of(image)
        beside = member.name.removeprefix("./").rpartition("/")[0]
        name = "/".join(part for part in (beside, str(image["file_name"])) if part)
        return ImportedImage(name, size, list(tree["annotations"]), photos)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        reason = printable(f"not SA-1B's JSON ({type(error).__name__}: {error})")
        done.fail(f"{printable(member.name)}: {reason}")
        return None


def _coco(
    file: Path, photos: Path | None, done: Imported, report: Callable[[int], None]
) -> Iterator[ImportedImage]:
    """Yield the images of a COCO file; all are taken to be in the folder of the first."""
    home = photos
    for number, image in enumerate(read_coco(file, report)):
        if number == 0 and photos is None and is_inside(image.name):
            home = image_folder(file, image.name)
        if image.skipped:
            done.fail(f"{printable(image.name)}: {printable(image.skipped[0])}")
        else:
            yield ImportedImage(image.name, image.size, image.annotations, home)
