"""What every exporter is given: images with their masks one after the other, and an ExportJob."""

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
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.sa1b import Annotation
from everything.errors import ImageError
from everything.export.classes import Classes
from everything.export.fidelity import Fidelity
from everything.export.originals import Original, usable
from everything.io.images.sources import Source
from everything.io.results.levels import level_of_all, levels_or_limit
from everything.io.results.reader import Result, Results

ImagePlacement = Literal["none", "link", "copy"]
Drawn = Literal["nothing", "masks", "images"]
MAX_PIXELS = 100_000_000  # of what is decoded at once; exporters need up to some 10 bytes each
_MOST_BORDER = 4_000_000  # px of a mask's border; outlines and rows need some 100 bytes each


def _ignored(annotation: Annotation, reason: str) -> None:
    """Count nothing."""


class Piece(NamedTuple):
    """A mask bool (h, w) of at least one pixel inside its box, at `corner` (x, y) of its image."""

    id: int
    annotation: Annotation
    mask: NDArray[np.bool_]
    corner: tuple[int, int]


@dataclass(frozen=True)
class LabelledImage:
    """An image with its masks.

    Args:
        number: Number of the image, from 1.
        name: Relative file name, one line of valid Unicode.
        stem: The name without its suffix, or with more where two would be equal.
        size: Height and width, px.
        annotations: SA-1B annotations of the masks with at least one pixel.
        find: Returns where the image file is, or None if it is not found.
        limited_to: The level of all masks, if the results were limited to one.
        leave_out: Counts a mask that takes too much memory; called with its annotation and why.
    """

    number: int
    name: str
    stem: str
    size: Size
    annotations: list[Annotation]
    find: Callable[[], Source | None]
    limited_to: Level = "all"
    leave_out: Callable[[Annotation, str], None] = _ignored

    @property
    def codes(self) -> list[rle.Rle]:
        """Return the masks as COCO run-length codes."""
        return [annotation["segmentation"] for annotation in self.annotations]

    @property
    def levels(self) -> list[Level | None]:
        """Return the level of each mask (everything/core/mask_hierarchy.py)."""
        return levels_or_limit(self.annotations, self.limited_to)

    def pieces(self) -> Iterator[Piece]:
        """Yield each mask, cropped to its box; those with too long a border are left out."""
        for row, annotation in enumerate(self.annotations):
            mask, corner = rle.cut(annotation["segmentation"])
            if mask.size > _MOST_BORDER and _border(mask) > _MOST_BORDER:
                self.leave_out(annotation, f"its border has more than {_MOST_BORDER:,} px")
                continue
            yield Piece(int(annotation.get("id", row)), annotation, mask, corner)


@dataclass(frozen=True)
class ExportJob:
    """Where an export is written, and with which options.

    Args:
        out: An empty folder.
        images: Whether the images are placed in the export.
        polygons: Write polygons instead of run-length codes, where the format has both.
        tolerance: How far polygons may deviate from the outline to have fewer corners, px.
        url: Prefix of image names for tools that load images by URL.
        fidelity: Counts what the export holds of the masks; each exporter adds to it.
        classes: The classes of the masks.
    """

    out: Path
    images: ImagePlacement = "none"
    polygons: bool = False
    tolerance: float = 0.0
    url: str = ""
    fidelity: Fidelity = field(default_factory=Fidelity)
    classes: Classes = field(default_factory=Classes)

    def file(self, name: str) -> Path:
        """Return the path of a file of the export; its folder is created."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def place(self, image: LabelledImage, name: str) -> bool:
        """Link or copy an image to a file of the export, unless images are not wanted.

        Images in a bucket or an archive are always copied. An image that is not the one that was
        labelled, by its size, is not placed but counted.

        Returns:
            Whether the image is in the export.
        """
        original = self.original(image)
        return original is not None and self.place_original(original, name)

    def original(self, image: LabelledImage) -> Original | None:
        """Return the file of an image if it is to be placed, or count why it cannot be."""
        is_placed = self.images != "none"
        found = usable(image.find(), image.name, image.size, self.fidelity, is_placed)
        return found if is_placed else None

    def place_original(self, original: Original, name: str, copy: bool = False) -> bool:
        """Link or copy an image file to a file of the export; tell whether that was possible."""
        try:
            if self.images == "link" and original.path is not None and not copy:
                self.file(name).symlink_to(original.path.resolve())
            else:
                content = original.content
                with self.file(name).open("xb") as file:
                    file.write(content)
        except (ImageError, FileExistsError) as error:
            exists = "another image has this name here: rename one"
            self.fidelity.images_not_found += 1
            self.fidelity.mention(name, exists if isinstance(error, OSError) else str(error))
            return False
        return True


class Write(Protocol):
    """Writes one format. Images come one at a time; exporters must not keep them."""

    def __call__(self, images: Iterable[LabelledImage], job: ExportJob) -> None:
        """Write all images below `job.out`, and count every mask in `job.fidelity`."""


def labelled_images(
    results: Results,
    fidelity: Fidelity,
    draws: Drawn = "images",
    max_pixels: int = MAX_PIXELS,
) -> Iterator[LabelledImage]:
    """Yield the images of a results folder.

    Args:
        results: The folder.
        fidelity: Counts the images, the masks that are left out, and the files that cannot be
            read or are too large, which are left out too.
        draws: What the format decodes to pixels.
        max_pixels: Leave out images, or masks whose boxes, are larger than this, px.
    """
    fidelity.images_left_out = len(results.left_out)
    stems = _stems([printable(key) for key in results.files])
    for number, key in enumerate(results.files, 1):
        result = results.read_or_leave_out(key, is_written=True)
        if result is None:
            continue
        leave_out = partial(_leave_out, fidelity, result.name)
        if draws == "images" and result.size[0] * result.size[1] > max_pixels:
            fidelity.too_large += 1
            fidelity.left_out += result.filtered_out + len(result.annotations)
            height, width = result.size
            fidelity.mention(result.name, f"{width} x {height} px {_over(max_pixels)}")
            continue
        found = _with_pixels(result)
        fidelity.left_out += result.filtered_out + len(result.annotations) - len(found)
        if draws == "masks":
            found = _small_enough(found, max_pixels, leave_out)
        fidelity.images += 1
        find = partial(results.image, key, result.name)
        yield LabelledImage(
            number, printable(result.name), stems[number - 1], result.size, found, find,
            level_of_all(result, results.keep),
            leave_out,
        )  # fmt: skip
    fidelity.unreadable = len(results.unreadable)
    for key, reason in results.unreadable.items():
        fidelity.mention(key, reason)


def _with_pixels(result: Result) -> list[Annotation]:
    areas = rle.areas([annotation["segmentation"] for annotation in result.annotations]).tolist()
    return [one for one, area in zip(result.annotations, areas, strict=True) if area]


def _leave_out(fidelity: Fidelity, name: str, annotation: Annotation, reason: str) -> None:
    """Count a mask that takes too much memory."""
    fidelity.too_large += 1
    fidelity.left_out += 1
    fidelity.mention(name, f"mask {annotation.get('id', '')}: {reason}: left out")


def _over(max_pixels: int) -> str:
    return f"are over the limit of {max_pixels:,} px: raise --max-pixels"


def _small_enough(
    annotations: list[Annotation], most: int, leave_out: Callable[[Annotation, str], None]
) -> list[Annotation]:
    found = []
    boxes = rle.boxes([annotation["segmentation"] for annotation in annotations]).astype(int)
    for annotation, (_, _, w, h) in zip(annotations, boxes.tolist(), strict=True):
        if w * h <= most:
            found.append(annotation)
        else:
            leave_out(annotation, f"the {w} x {h} px of its box {_over(most)}")
    return found


def _border(mask: NDArray[np.bool_]) -> int:
    """Count neighbouring pixels, along columns and rows, that differ."""
    down = np.count_nonzero(mask[1:] != mask[:-1])
    return int(down + np.count_nonzero(mask[:, 1:] != mask[:, :-1]))


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
    """Writes the items of a JSON list to a file, one at a time."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._between = ""

    def append(self, item: Any) -> None:
        """Write one item."""
        # Not json.dump, which writes in thousands of small pieces what C code makes in one.
        text = json.dumps(item, separators=(",", ":"), allow_nan=False)
        self._file.write(self._between + text)
        self._between = ",\n"


@contextmanager
def json_lists(path: Path, head: dict[str, Any], *names: str) -> Iterator[list[JsonList]]:
    """Write lists that are filled at the same time to one JSON file.

    Args:
        path: The file.
        head: What comes before the lists; it is written last and may change until then.
        names: Keys of the lists.

    Yields:
        The lists, in the order of their names.
    """
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
