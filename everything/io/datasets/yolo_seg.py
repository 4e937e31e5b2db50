"""YOLO-seg data sets (data.yaml, images, labels/*.txt with one outline a line).

Masks are those that ultralytics trains on: corners are cut off to whole pixels, and the outline is
filled with its border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from everything.core import rle
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.rle import Rle
from everything.core.sa1b import size_of
from everything.core.safe_yaml import parse_yaml
from everything.errors import ImageError, InputError, reason_of
from everything.io.datasets.annotations import (
    NO_MASK,
    NOT_A_MASK,
    TOO_FEW,
    AnnotatedImage,
    UnusableAnnotation,
    read_annotations,
)
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.images.header import read_size
from everything.io.images.sources import has_image_suffix, list_inputs
from everything.io.results.categories import Category

OUTSIDE = "coordinates that are not between 0 and 1"
NO_PLACE = "no such folder or list of images"
NO_CLASS = "a class that data.yaml does not list"
_SPLITS = ("train", "val", "test")


@dataclass
class YoloReader:
    """Reads the images of a data set that have a file of labels.

    Attributes:
        file: The data.yaml.
        images: The folder of the images, if they are not where data.yaml says.
        tally: Counts what is left out.
        on_progress: Called with how much is done, in bytes of `file`.
        categories: The classes; their ids are YOLO's and begin with 0.
    """

    file: Path
    images: Path | None = None
    tally: ReadingTally = field(default_factory=ReadingTally)
    on_progress: Callable[[int], None] = lambda done: None
    categories: list[Category] = field(default_factory=list)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        """Yield the images, one at a time.

        Raises:
            InputError: If it is no data set, or has no images, or no labels for any of them.
        """
        about = self._about()
        names = _names(about.get("names"), self.file)
        self.categories = [Category(number, name) for number, name in names.items()]
        root = self._root(about)
        found = list(self._found(about, root))
        if not found:
            places = "".join(f" ({line})" for line in self.tally.examples[:1])
            raise InputError(
                f"{printable(self.file)}: no images where it says{places}: give --photos"
            )
        size, used, is_empty = self.file.stat().st_size, set[Path](), True
        for number, (home, image) in enumerate(found):
            labels = _labels_of(image, home, root if self.images else None)
            self.on_progress(round(size * number / len(found)))
            if labels in used:
                self.tally.refuse_image(str(image), "another image has the same labels: rename one")
                continue
            used.add(labels)
            if labels.is_file():  # else it is not annotated
                is_empty = False
                try:
                    yield self._read(home, image, labels, names)
                except (ImageError, OSError, ValueError) as error:
                    self.tally.refuse_image(str(image), reason_of(error))
        self._count_unused(root, used)
        if is_empty:
            raise InputError(
                f"{printable(self.file)}: none of its {len(found):,} images has a file of labels: "
                "put them into labels/ beside images/"
            )

    def _about(self) -> dict[str, Any]:
        try:
            about = parse_yaml(self.file.read_bytes())
        except (OSError, ValueError) as error:
            reason = printable(reason_of(error))
            raise InputError(f"{printable(self.file)}: not readable YAML ({reason})") from error
        if not isinstance(about, dict) or not any(about.get(split) for split in _SPLITS):
            raise InputError(
                f"{printable(self.file)}: no data set of YOLO (it has neither train nor val): give "
                "its data.yaml"
            )
        return about

    def _root(self, about: dict[str, Any]) -> Path:
        home = self.file.absolute().parent
        named = home / str(about.get("path") or ".")
        return named if named.is_dir() else home  # data sets are moved, and keep their `path`

    def _found(self, about: dict[str, Any], root: Path) -> Iterator[tuple[Path, Path]]:
        """The folder and the path of each image, each once, whatever splits it is in."""
        seen = set[Path]()
        for place in [self.images] if self.images else _places(about, root):
            if not place.exists():  # Roboflow names splits that it has not written
                self.tally.refuse_image(str(place), NO_PLACE)
                continue
            for image in _images_of(place, root):
                if image not in seen:
                    seen.add(image)
                    yield self.images or _home_of(image, root), image

    def _read(self, home: Path, image: Path, labels: Path, names: dict[int, str]) -> AnnotatedImage:
        height, width = read_size(image)
        size = size_of({"height": height, "width": width})
        name = image.relative_to(home.absolute()).as_posix()
        rows: list[Any] = []
        for number, line in enumerate(labels.read_text(encoding="utf-8-sig").splitlines(), 1):
            if not line.strip():
                continue
            try:
                rows.append({"id": number} | _annotation(line, names, size))
            except UnusableAnnotation as error:
                self.tally.leave_out(error.reason, f"{labels}, line {number}", str(error))
        return AnnotatedImage(name, size, read_annotations(rows, size, name, self.tally), home)

    def _count_unused(self, root: Path, used: set[Path]) -> None:
        """Count files of labels that belong to no image."""
        for folder in {file.parent for file in used} | {root / "labels"}:
            for file in sorted(folder.rglob("*.txt")) if folder.is_dir() else ():
                if file not in used:
                    used.add(file)
                    self.tally.refuse_image(str(file), "no image has these labels: give --photos")


def _names(names: Any, file: Path) -> dict[int, str]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    found: dict[int, str] = {}
    try:
        for number, name in names.items():
            text = str(number if name is None else name)
            # Classes of one name stay two.
            found[int(number)] = f"{text} ({number})" if text in found.values() else text
        return found
    except (AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{printable(file)}: `names` is no list of classes: correct it") from error


def _places(about: dict[str, Any], root: Path) -> Iterator[Path]:
    for split in _SPLITS:
        value = about.get(split) or []
        for place in value if isinstance(value, list) else [value]:
            found = _in(root, str(place))
            # Roboflow writes ../train/images for a folder beside data.yaml.
            beside = _in(root, str(place).removeprefix("../"))
            yield found if found.exists() or not beside.exists() else beside


def _images_of(place: Path, root: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (source.path.absolute() for source in list_inputs([place]))
        return
    for line in map(str.strip, place.read_text(encoding="utf-8-sig").splitlines()):
        if has_image_suffix(line.replace("\\", "/").rsplit("/", 1)[-1]):
            is_beside = line.startswith(("./", ".\\"))
            yield _in(place.parent if is_beside else root, line).absolute()


def _in(folder: Path, name: str) -> Path:
    """A file or folder in a folder, also if its name was written on Windows."""
    found = folder / name
    return found if found.exists() else folder / name.replace("\\", "/")


def _home_of(image: Path, root: Path) -> Path:
    """The folder that names are relative to: images/ of the data set, or the data set."""
    inside = root.absolute() / "images"
    for home in (inside, root.absolute()):
        if image.is_relative_to(home):
            return home
    return image.parent


def _labels_of(image: Path, home: Path, moved_from: Path | None) -> Path:
    """The file of an image's labels: the last folder called images in its path is labels there."""
    if moved_from is not None:
        name = image.relative_to(home.absolute())
        return moved_from.absolute() / "labels" / name.with_suffix(".txt")
    parts = list(image.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)


def _annotation(line: str, names: dict[int, str], size: Size) -> dict[str, Any]:
    try:
        number, *values = (float(part) for part in line.split())
    except ValueError as error:
        raise UnusableAnnotation(NOT_A_MASK, reason_of(error)) from error
    if number not in names:
        raise UnusableAnnotation(NO_CLASS, f"class {number:g} is not in data.yaml")
    if len(values) == 4:
        raise UnusableAnnotation(NO_MASK, "a box, no outline")
    if len(values) % 2:
        raise UnusableAnnotation(NOT_A_MASK, "an outline that is not x, y, x, y, …")
    if len(values) < 6:
        raise UnusableAnnotation(TOO_FEW)
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
        raise UnusableAnnotation(OUTSIDE)
    return {"segmentation": _mask(values, size), "category": names[int(number)]}


def _mask(values: list[float], size: Size) -> Rle:
    height, width = size
    corners = np.array(values).reshape(-1, 2) * (width, height)
    corners = np.minimum(corners.astype(np.int32), (width - 1, height - 1)).astype(np.int32)
    x, y = corners.min(0).tolist()
    w, h = (corners.max(0) - (x, y) + 1).tolist()
    pixels = np.zeros((h, w), np.uint8)
    cv2.fillPoly(pixels, [corners - np.array([x, y], np.int32)], 1)
    return rle.encode(pixels.view(np.bool_), (x, y), size)
