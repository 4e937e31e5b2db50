"""Images with their label maps, read from every format of ground truth, as training needs them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everything.core import rle
from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.rle import compressed
from everything.errors import InputError, reason_of
from everything.io.datasets.bsds import bsds_files, home_of_bsds, read_bsds_labels
from everything.io.datasets.coco import CocoReader, is_coco
from everything.io.datasets.image_names import ImageFinder
from everything.io.datasets.reading_tally import log_tally
from everything.io.images.decode import read_image
from everything.io.images.sources import has_image_suffix

_COMPLETE = 0.9  # share of an image
# What reading a JSON tree of another form raises.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
Labels = NDArray[np.int16]


@dataclass(frozen=True)
class LabelledImage:
    """One image with its label maps.

    Attributes:
        name: path of the image, relative to the folder.
        pixels: uint8 (H, W, 3) sRGB, upright.
        labels: int16 (K, H, W), one map for each annotator; equal numbers are one region, 0 is
            unknown.
        complete: whether the whole image was annotated, so that where there is no boundary in
            the labels, there is none in the image.

    Raises:
        InputError: if image and labels differ in size.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: Labels
    complete: bool = True

    def __post_init__(self) -> None:
        (height, width), (h, w) = self.pixels.shape[:2], self.labels.shape[1:]
        if (height, width) != (h, w):
            raise InputError(
                f"{printable(self.name)}: the image has {width} x {height} px, its labels {w} x "
                f"{h}: give the image that was annotated"
            )


def mirrored(image: LabelledImage) -> LabelledImage:
    """Return an image and its labels with left and right exchanged."""
    pixels, labels = image.pixels[:, ::-1], image.labels[..., ::-1]
    return LabelledImage(image.name, pixels.copy(), labels.copy(), image.complete)


def read_labelled_images(path: Path, split: str | None = None) -> Iterator[LabelledImage]:
    """Yield the images of a folder or file of ground truth; its content tells the format.

    Known formats: BSDS500 as distributed (`images/SPLIT`, `groundTruth/SPLIT/*.mat`); a data pack
    (`annotations.json.xz`); a COCO or LVIS file, with the images beside
    it or in a folder near it; SA-1B (a folder of images and JSON files of the same stem); label
    maps (`photos/` or `images/`, and `labels/` with PNG or NPY files of the same stem, each an
    array (H, W) or (K, H, W)).

    Args:
        path: a COCO file, or the folder of one of the formats.
        split: the part of BSDS500 or of a data pack to read; None for all of it.

    Raises:
        InputError: if no format fits, an image is missing, or an annotation is not valid.
        ImageError: if an image cannot be decoded.
    """
    if not path.exists():
        raise InputError(f"{printable(path)}: no such file or folder: give ground truth")
    if path.is_file():
        return _of_coco(path)
    if (path / "annotations.json.xz").is_file():
        return _of_pack(path, split)
    if home := home_of_bsds(path):
        return _of_bsds(home, split)
    if (path / "labels").is_dir():
        return _of_label_maps(path)
    files = [(p.with_suffix(".json"), p) for p in _images(path)]
    if pairs := [(file, image) for file, image in files if file.is_file()]:
        return _of_sa1b(path, pairs)
    found = [file for file in sorted(path.glob("*.json*")) if is_coco(file)]
    if len(found) == 1:
        return _of_coco(found[0])
    raise InputError(
        f"{printable(path)}: no ground truth in a known format: give a data pack, one COCO file, "
        "SA-1B JSON beside the images, or labels/ beside images/"
    )


def labels_from_masks(masks: Iterable[NDArray[np.bool_]], size: Size) -> Labels:
    """Return the label map int16 (1, H, W) of masks bool (H, W).

    Where masks overlap, the smaller one is on top, so that parts stay visible on their wholes.
    """
    labels = np.zeros((1, *size), np.int16)
    by_area = sorted(masks, key=lambda mask: -int(mask.sum()))
    for number, mask in enumerate(by_area, 1):
        labels[0][mask] = number
    return labels


def _of_pack(folder: Path, split: str | None) -> Iterator[LabelledImage]:
    file = folder / "annotations.json.xz"
    try:
        with lzma.open(file) as content:
            images = json.load(content)["images"]
        wanted = [one for one in images if split is None or one.get("split", split) == split]
    except (lzma.LZMAError, EOFError, OSError, *_MALFORMED) as error:
        raise _broken(file, error) from error
    if images and not wanted:
        splits = ", ".join(sorted({str(one.get("split")) for one in images}))
        raise InputError(f"{printable(file)}: no images in split {split!r}: choose one of {splits}")
    for image in wanted:
        try:
            name, labels = str(image["file"]), _pack_labels(image)
        except _MALFORMED as error:
            raise _broken(file, error) from error
        pixels = read_image(folder / name).pixels
        yield LabelledImage(name, pixels, labels, bool(image.get("full_cover", True)))


def _pack_labels(image: dict[str, Any]) -> Labels:
    size = (image["height"], image["width"])
    # The first number of a segment is its annotator, but only where there are several.
    has_annotators = "annotators" in image
    labels = np.zeros((image.get("annotators", 1), *size), np.int16)
    count = [0] * len(labels)
    for kind, segment in image["segments"]:
        annotator = kind if has_annotators else 0
        count[annotator] += 1
        labels[annotator][_mask(segment, size)] = count[annotator]
    return labels


def _broken(file: Path, error: Exception) -> InputError:
    reason = printable(f"{type(error).__name__}: {reason_of(error)}")
    return InputError(f"{printable(file)}: not a data pack ({reason}): get another copy of it")


def _of_bsds(home: Path, split: str | None) -> Iterator[LabelledImage]:
    for image, file in bsds_files(home, split):
        labels = read_bsds_labels(file)
        name = image.relative_to(home / "images").as_posix()
        yield LabelledImage(name, read_image(image).pixels, labels)


def _of_coco(file: Path) -> Iterator[LabelledImage]:
    reader = CocoReader(file, ImageFinder(file))
    for image in reader:
        if image.folder is None:
            raise InputError(
                f"{printable(image.name)}: no such image near {printable(file)}: put the images "
                "beside the file"
            )
        codes = [annotation["segmentation"] for annotation in image.annotations]
        masks = rle.decode(codes, image.size)
        pixels = read_image(image.folder / image.name).pixels
        yield _from_masks(image.name, pixels, image.size, masks)
    log_tally(file, reader.tally)


def _of_sa1b(folder: Path, pairs: list[tuple[Path, Path]]) -> Iterator[LabelledImage]:
    for file, image in pairs:
        content = json.loads(file.read_bytes())
        size = (content["image"]["height"], content["image"]["width"])
        masks = [_mask(a["segmentation"], size) for a in content["annotations"]]
        yield _from_masks(str(image.relative_to(folder)), read_image(image).pixels, size, masks)


def _from_masks(
    name: str, pixels: NDArray[np.uint8], size: Size, masks: Iterable[NDArray[np.bool_]]
) -> LabelledImage:
    labels = labels_from_masks(masks, size)
    # Masks of objects alone leave most of an image without labels; boundaries there are unknown.
    return LabelledImage(name, pixels, labels, complete=is_complete(labels))


def is_complete(labels: Labels) -> bool:
    """Tell whether so much of an image is labelled that all of it counts as annotated.

    Args:
        labels: int16 (K, H, W), 0 where nothing is labelled.
    """
    return bool((labels > 0).mean() > _COMPLETE)


def _of_label_maps(folder: Path) -> Iterator[LabelledImage]:
    home = next((folder / n for n in ("photos", "images") if (folder / n).is_dir()), folder)
    for image in _images(home):
        stem = image.relative_to(home).with_suffix("")
        for suffix in (".npy", ".png"):
            file = (folder / "labels" / stem).with_suffix(suffix)
            if file.is_file():
                labels = _read_labels(file)
                pixels = read_image(image).pixels
                yield LabelledImage(str(stem), pixels, labels, is_complete(labels))
                break


def _read_labels(file: Path) -> Labels:
    raw = np.load(file, allow_pickle=False) if file.suffix == ".npy" else np.array(Image.open(file))
    if raw.ndim not in (2, 3):
        raise InputError(
            f"{printable(file)}: an array of shape {raw.shape}: give a label map (H, W) or (K, H, "
            "W)"
        )
    maps = raw[None] if raw.ndim == 2 else raw
    # Each map's numbers, of any size, become 1, 2, 3 …; 0 stays unknown.
    dense = []
    for one in maps:
        values, index = np.unique(one, return_inverse=True)
        dense.append(index.reshape(one.shape) + (0 if values[0] == 0 else 1))
    return np.stack(dense).astype(np.int16)


def _mask(segmentation: Any, size: Size) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = rle.decode([compressed(segmentation, size)], size)[0]
    return mask


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if has_image_suffix(path.name))
