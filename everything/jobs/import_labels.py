"""Labels of others as a results folder: SA-1B's tars, read as they come, and COCO files.

What is not known is not made up: an annotation without a score of its own is certain (1.0) and was
found by no point. A crowd keeps `iscrowd`, a class its name as `category`.
"""

from __future__ import annotations

import json
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
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
from everything.errors import EverythingError, InputError, StoreError
from everything.io.datasets.coco_stream import photos_of
from everything.io.results.manifest import Manifest, Row
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.io.storage.locations import Location
from everything.jobs.status import JobState, write_state

_MOST = 512 * 2**20  # bytes of one annotation file; SA-1B's largest has some 2 MiB
_SUFFIX = ".json"
_Tree = dict[str, Any]
Progress = Callable[[int, int], None]


class Found(NamedTuple):
    """A photo with its annotations as they were found, and where the photo lies."""

    name: str
    size: Size
    annotations: list[_Tree]
    home: Path | None


@dataclass
class Imported:
    """What has come in. skipped: it was there already. failures: what could not be read and why."""

    photos: int = 0
    masks: int = 0
    skipped: int = 0
    unpacked: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """Count what could not be read; the first twenty reasons are kept."""
        self.failed += 1
        if len(self.failures) < 20:
            self.failures.append(reason)

    def to_json(self) -> _Tree:
        """Return it for programs."""
        return dict(vars(self))

    def table(self) -> Table:
        """Return it for the terminal."""
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
    """Bring SA-1B tars, folders of them or COCO files into a results folder, and count.

    photos: where the photos are; those in tars are unpacked there, and nowhere if it is not given.
    progress: called with bytes read and bytes in all. What cannot be read is counted with its
    reason and stops nothing; photos that are there already are not read again.
    Raises InputError if a source does not exist or is neither, StoreError as `label` does.
    """
    files = list(_files(sources))
    tars = [file for file in files if tarfile.is_tarfile(file)]
    if tars and len(tars) < len(files):
        raise InputError("give tars, or COCO files: one results folder is of one kind")
    kind = "sa-1b" if tars else "coco"
    recipe = Recipe(
        variant=kind, sampler={"name": "imported"}, version=version("segevery"), weights=""
    )
    store, done, began = Store(out, recipe), Imported(), time.time()
    total, before = sum(file.stat().st_size for file in files), 0
    with store.opened():
        ledger = Manifest(store.folder)
        for file in files:
            report = _from(before, total, progress)
            found = _tar(file, photos, done, report) if tars else _coco(file, photos, report)
            try:
                for photo in found:
                    _keep(photo, store, ledger, done)
            except (tarfile.TarError, EOFError, OSError) as error:
                done.fail(f"{printable(file)}: {printable(str(error))}: get another copy of it")
            report(file.stat().st_size)
            before += file.stat().st_size
        ledger.compact()
        images = done.photos + done.skipped + done.failed
        write_state(store.folder, JobState(images, began, time.time()))
    return done


def _from(before: int, total: int, progress: Progress | None) -> Callable[[int], None]:
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


def _keep(photo: Found, store: Store, ledger: Manifest, done: Imported) -> None:
    """Write a photo's result and row, or count why it cannot be."""
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
        done.fail(f"{printable(photo.name)}: {printable(str(error) or type(error).__name__)}")
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
    ledger.append(row)
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
) -> Iterator[Found]:
    """Go through a tar once, from front to back; only one member is held.

    Raises tarfile.ReadError at its end if it has been cut off, which tarfile itself may not notice.
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
            raise tarfile.ReadError("it has been cut off")


def _member(
    content: Any, member: tarfile.TarInfo, done: Imported, photos: Path | None
) -> Found | None:
    """The annotations of one JSON file of SA-1B. Photos lie beside it."""
    try:
        if member.size > _MOST:
            raise ValueError(f"{member.size:,} bytes are over the limit of {_MOST:,}")
        tree = json.loads(content.read())
        image = tree["image"]
        size = size_of(image)
        beside = member.name.removeprefix("./").rpartition("/")[0]
        name = "/".join(part for part in (beside, str(image["file_name"])) if part)
        return Found(name, size, list(tree["annotations"]), photos)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        reason = printable(f"not SA-1B's JSON ({type(error).__name__}: {error})")
        done.fail(f"{printable(member.name)}: {reason}")
        return None


def _coco(file: Path, photos: Path | None, report: Callable[[int], None]) -> Iterator[Found]:
    """The photos of a COCO file, with where the first one of them is taken for where all are."""
    home = photos
    for number, (name, size, masks) in enumerate(photos_of(file, report)):
        if number == 0 and photos is None:
            home = _beside(file, name)
        yield Found(name, size, masks, home)


def _beside(file: Path, name: str) -> Path | None:
    """The folder near a COCO file where its first photo is."""
    if not is_inside(name):
        return None
    near = [file.parent, file.parent / "images", file.parent.parent / "images" / "default"]
    near += [file.parent.parent, file.parent.parent / "images"]
    with suppress(OSError):
        return next((home for home in near if (home / name).is_file()), None)
    return None
