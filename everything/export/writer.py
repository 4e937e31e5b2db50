"""What every export is given: photos with their masks one after the other, and where to write."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from everything.config import Level
from everything.core import rle
from everything.core.file_names import is_inside, printable
from everything.core.geometry import Size
from everything.core.mask_hierarchy import levels_of
from everything.core.sa1b import Annotation
from everything.errors import ImageError, InputError
from everything.export.fidelity import Tally
from everything.io.images.decode import Limits
from everything.io.images.fetch import read_source
from everything.io.images.sources import Source
from everything.io.results.reader import Result, Results

Placing = Literal["none", "link", "copy"]
CLASS = "object"  # the only one: masks have no names


class Piece(NamedTuple):
    """A mask bool (h, w) of at least one pixel inside its box, at `corner` (x, y) of its photo."""

    id: int
    annotation: Annotation
    mask: NDArray[np.bool_]
    corner: tuple[int, int]


@dataclass(frozen=True)
class Labelled:
    """A photo with its masks.

    number: 1 for the first one. name: relative, one line of valid Unicode. stem: the name without
    suffix, or with more where two would be equal. size: (H, W) px. annotations: those with at
    least one pixel. find: returns where the photo is, or None.
    """

    number: int
    name: str
    stem: str
    size: Size
    annotations: list[Annotation]
    find: Callable[[], Source | None]

    @property
    def codes(self) -> list[rle.Rle]:
        """The masks."""
        return [annotation["segmentation"] for annotation in self.annotations]

    def pieces(self) -> Iterator[Piece]:
        """Yield each mask inside its box."""
        for row, annotation in enumerate(self.annotations):
            mask, corner = rle.cut(annotation["segmentation"])
            yield Piece(int(annotation.get("id", row)), annotation, mask, corner)


@dataclass(frozen=True)
class Job:
    """Where an export goes and how.

    out: an empty folder. photos: whether they are placed beside the labels. polygons: instead of
    run lengths where the format has both. tolerance: px by which polygons may differ to have fewer
    corners. url: what stands before a photo's name for tools that load photos by URL.
    """

    out: Path
    photos: Placing = "none"
    polygons: bool = False
    tolerance: float = 0.0
    url: str = ""
    tally: Tally = field(default_factory=Tally)

    def file(self, name: str) -> Path:
        """Return where a file goes, with its folder made."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def place(self, photo: Labelled, name: str) -> None:
        """Put a photo under a name of the export, as a link or a copy, if photos are wanted.

        One in a bucket or an archive is always copied.
        """
        if self.photos == "none":
            return
        source = photo.find()
        if source is None:
            self.tally.lost_photos += 1
            return
        place = source.location
        if self.photos == "link" and source.start is None and isinstance(place, Path):
            self.file(name).symlink_to(place.resolve())
            return
        try:
            self.file(name).write_bytes(read_source(source, Limits()))
        except ImageError:
            self.tally.lost_photos += 1


class Write(Protocol):
    """Writes one format; photos come once, and only one of them is to be held."""

    def __call__(self, photos: Iterable[Labelled], job: Job) -> None:
        """Write all photos below `job.out`, and count what was kept in `job.tally`."""


def labelled(results: Results, tally: Tally, level: Level = "all") -> Iterator[Labelled]:
    """Yield what a label folder has, only masks of a level, and count what is left out.

    Raises InputError for annotations that cannot be read.
    """
    stems = _stems([printable(key) for key in results.files])
    for number, key in enumerate(results.files, 1):
        result = results.read(key)
        if not is_inside(result.name):
            where = results.where(key)
            raise InputError(f"{where}: its photo's name leads out of the folder: rename it")
        found = _with_pixels(result)
        if level != "all":
            scores = [float(one.get("predicted_iou", 1.0)) for one in found]
            levels = levels_of([one["segmentation"] for one in found], scores)
            found = [one for one, its in zip(found, levels, strict=True) if its == level]
        tally.left_out += len(result.annotations) - len(found)
        tally.photos += 1
        find = partial(results.photo, key, result.name)
        yield Labelled(number, printable(result.name), stems[number - 1], result.size, found, find)


def _with_pixels(result: Result) -> list[Annotation]:
    areas = rle.areas([annotation["segmentation"] for annotation in result.annotations]).tolist()
    return [one for one, area in zip(result.annotations, areas, strict=True) if area]


def _stems(names: list[str]) -> list[str]:
    bare = [str(PurePosixPath(name).with_suffix("")) for name in names]
    taken = Counter(stem.casefold() for stem in bare)
    for row, stem in enumerate(bare):
        if taken[stem.casefold()] > 1:
            stem = f"{stem}_{PurePosixPath(names[row]).suffix[1:]}"
            while taken[stem.casefold()]:
                stem += "_"
            taken[stem.casefold()] = 1
            bare[row] = stem
    return bare


class JsonList:
    """A list in a JSON file, written item by item."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._between = ""

    def append(self, item: Any) -> None:
        """Write one more item."""
        # Not json.dump, which writes in thousands of small pieces what C code makes in one.
        text = json.dumps(item, separators=(",", ":"), allow_nan=False)
        self._file.write(self._between + text)
        self._between = ",\n"


@contextmanager
def json_lists(path: Path, head: dict[str, Any], *names: str) -> Iterator[list[JsonList]]:
    """Give lists to be filled at the same time, which then follow `head` in one JSON file."""
    parts = [path.with_name(f"{path.name}.{name}") for name in names]
    with ExitStack() as stack:
        yield [JsonList(stack.enter_context(part.open("w", encoding="ascii"))) for part in parts]
    with path.open("wb") as file:
        file.write(json.dumps(head, separators=(",", ":"))[:-1].encode("ascii"))
        for name, part in zip(names, parts, strict=True):
            file.write(f',"{name}":[\n'.encode("ascii"))
            with part.open("rb") as written:
                shutil.copyfileobj(written, file)
            file.write(b"\n]")
            part.unlink()
        file.write(b"}\n")


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the IoU of two masks bool (h, w)."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
