"""CVAT for images 1.1 (annotations.xml): polygons, and masks as run lengths in their boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from everything.core import rle
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.rle import Rle
from everything.core.sa1b import size_of
from everything.errors import InputError, reason_of
from everything.io.datasets.annotations import (
    NOT_A_MASK,
    AnnotatedImage,
    UnusableAnnotation,
    read_annotations,
)
from everything.io.datasets.image_names import ImageFinder, identity_of, image_name
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.results.categories import Category

OUTSIDE = "a mask whose box is not inside the image"
_LABELS = ("annotations/meta/task/labels", "annotations/meta/project/labels",
           "annotations/meta/job/labels", "annotations/meta/labels")  # fmt: skip
_HEAD = 2**16  # bytes


@dataclass
class CvatReader:
    """Reads the images of a file as a stream, in its order.

    Attributes:
        file: The XML file.
        finder: Finds the images on disk.
        tally: Counts what is left out.
        on_progress: Called with how much of the file is done, in bytes.
        categories: The labels, numbered from 1; there once the first image is.
    """

    file: Path
    finder: ImageFinder
    tally: ReadingTally = field(default_factory=ReadingTally)
    on_progress: Callable[[int], None] = lambda done: None
    categories: list[Category] = field(default_factory=list)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        """Yield the images.

        Raises:
            InputError: It is no XML, not CVAT's, or damaged (images before the damage are yielded).
        """
        with self.file.open("rb") as stream:
            if b"<!DOCTYPE" in stream.read(_HEAD):  # entities can expand to any size
                raise InputError(f"{printable(self.file)}: an XML file with a DOCTYPE: remove it")
            stream.seek(0)
            path: list[str] = []
            above: list[Any] = []
            try:
                for event, element in ElementTree.iterparse(stream, ("start", "end")):
                    if event == "start":
                        path.append(element.tag)
                        above.append(element)
                        if path[0] != "annotations":
                            raise InputError(
                                f"{printable(self.file)}: not CVAT's XML: export the task as "
                                "`CVAT for images 1.1`"
                            )
                        continue
                    where = "/".join(path)
                    path.pop()
                    above.pop()
                    if where in _LABELS:
                        self._add_labels(element)
                    elif where == "annotations/image":
                        if (image := self._image(element)) is not None:
                            yield image
                        above[-1].clear()  # what was read is not kept
                        self.on_progress(stream.tell())
                    elif where == "annotations/track":
                        self.tally.leave_out("a track of a video", printable(self.file))
            except ElementTree.ParseError as error:
                reason = f"not readable XML ({reason_of(error)}): export it again"
                raise InputError(f"{printable(self.file)}: {reason}") from error

    def _add_labels(self, labels: Any) -> None:
        for label in labels.iter("label"):
            name = (label.findtext("name") or "").strip()
            if name and name not in {one.name for one in self.categories}:
                self.categories.append(Category(len(self.categories) + 1, name))

    def _image(self, element: Any) -> AnnotatedImage | None:
        try:
            identity = identity_of({"file_name": element.get("name")})
            sides = {side: _whole(element.get(side)) for side in ("height", "width")}
            size = size_of(sides)
        except (ValueError, TypeError, KeyError) as error:
            self.tally.refuse_image(str(element.get("name")), reason_of(error))
            return None
        found = self.finder.find(identity)
        self.tally.images_not_found += found is None
        self.tally.guessed_images += bool(found and found.is_guess)
        name = found.name if found else image_name(identity)
        rows: list[Any] = []
        for number, shape in enumerate(element):
            try:
                label = {"category": shape.get("label")} if shape.get("label") else {}
                rows.append({"id": number, "segmentation": _mask(shape, size)} | label)
            except UnusableAnnotation as error:
                where = f"{name}, annotation {number}"
                self.tally.leave_out(error.reason, where, str(error))
        records = read_annotations(rows, size, name, self.tally)
        return AnnotatedImage(name, size, records, found.folder if found else None)


def _mask(shape: Any, size: Size) -> Any:
    if shape.tag == "polygon":
        return [_corners(shape.get("points"))]
    if shape.tag == "mask":
        return _run_lengths(shape, size)
    raise UnusableAnnotation(f"no mask (CVAT's {printable(shape.tag)})")


def _corners(points: str | None) -> list[float]:
    try:
        pairs = [point.split(",") for point in (points or "").split(";") if point.strip()]
        return [float(value) for x, y in pairs for value in (x, y)]
    except ValueError as error:
        raise UnusableAnnotation(NOT_A_MASK, f"points that are not x,y;x,y;… ({error})") from error


def _run_lengths(shape: Any, size: Size) -> Rle:
    try:
        left, top, w, h = (_whole(shape.get(key)) for key in ("left", "top", "width", "height"))
        runs = [_whole(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError as error:
        raise UnusableAnnotation(NOT_A_MASK, reason_of(error)) from error
    if left < 0 or top < 0 or w < 1 or h < 1 or left + w > size[1] or top + h > size[0]:
        raise UnusableAnnotation(OUTSIDE)
    if min(runs) < 0 or sum(runs) != w * h:
        raise UnusableAnnotation(NOT_A_MASK, "run lengths that do not fill the mask's box")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
    return rle.encode(pixels, (left, top), size)


def _whole(text: str | None) -> int:
    """Read a whole number; CVAT writes "12" or "12.0"."""
    if text is None:
        raise ValueError("a number is missing")
    value = float(text)
    if not value.is_integer():
        raise ValueError(f"{value:g} is no whole number")
    return int(value)
