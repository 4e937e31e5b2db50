"""Truth: photos whose regions somebody marked, read from the formats in which people have them."""

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
from pycocotools import mask as coco_mask

from everything.errors import InputError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
Labels = NDArray[np.int16]


@dataclass(frozen=True)
class Truth:
    """One photo with its regions.

    name: path relative to the folder. photo: uint8 (H, W, 3) RGB. labels: int16 (K, H, W), one map
    for each annotator; equal numbers are one region, 0 is unknown. complete: whether the whole
    photo was marked, so that boundaries which are not there are known not to be there.
    """

    name: str
    photo: NDArray[np.uint8]
    labels: Labels
    complete: bool = True

    def __post_init__(self) -> None:
        if self.labels.shape[1:] != self.photo.shape[:2]:
            raise ValueError(
                f"{self.name}: labels are {self.labels.shape[1:]}, the photo is "
                f"{self.photo.shape[:2]}"
            )


def mirrored(truth: Truth) -> Truth:
    """Return a photo and its regions, left and right exchanged."""
    photo, labels = truth.photo[:, ::-1], truth.labels[..., ::-1]
    return Truth(truth.name, photo.copy(), labels.copy(), truth.complete)


def read_truth(path: Path, split: str | None = None) -> Iterator[Truth]:
    """Yield the photos of a folder or file of truth; the format is recognised by what is there.

    Known: a data pack (annotations.json.xz), a COCO file (a JSON with "images" and "annotations",
    photos beside it or in images/), SA-1B (a folder of photos and JSONs of the same stem) and
    label maps (photos/ or images/, and labels/ with PNG or NPY files of the same stem: an array
    (H, W) or (K, H, W)). split: of a data pack, the only one to read.
    Raises InputError if no format fits.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder: give what holds the truth")
    if path.is_file():
        return _coco(path)
    if (path / "annotations.json.xz").is_file():
        return _pack(path, split)
    if (path / "labels").is_dir():
        return _label_maps(path)
    pairs = [(p.with_suffix(".json"), p) for p in _photos(path) if p.with_suffix(".json").is_file()]
    if pairs:
        return _sa1b(path, pairs)
    found = [file for file in sorted(path.glob("*.json")) if _is_coco(file)]
    if len(found) == 1:
        return _coco(found[0])
    raise InputError(
        f"{path}: holds no truth that is known here: a data pack, one COCO file, SA-1B JSONs "
        f"beside their photos, or labels/ beside images/"
    )


def labels_from_masks(masks: Iterable[NDArray[np.bool_]], size: tuple[int, int]) -> Labels:
    """Return the label map int16 (1, H, W) of masks (H, W); where they overlap, the smaller one
    is on top, so that parts stay visible in wholes."""
    labels = np.zeros((1, *size), np.int16)
    by_area = sorted(masks, key=lambda mask: -int(mask.sum()))
    for number, mask in enumerate(by_area, 1):
        labels[0][mask] = number
    return labels


def _pack(folder: Path, split: str | None) -> Iterator[Truth]:
    with lzma.open(folder / "annotations.json.xz") as file:
        images = json.load(file)["images"]
    for image in images:
        if split is not None and image.get("split", split) != split:
            continue
        size = (image["height"], image["width"])
        # The first number of a segment is an annotator only where several looked at the photo.
        many = "annotators" in image
        labels = np.zeros((image.get("annotators", 1), *size), np.int16)
        count = [0] * len(labels)
        for kind, rle in image["segments"]:
            who = kind if many else 0
            count[who] += 1
            labels[who][_decoded(rle, size)] = count[who]
        photo = read_photo(folder / image["file"])
        yield Truth(image["file"], photo, labels, image.get("full_cover", True))


def _coco(file: Path) -> Iterator[Truth]:
    content = json.loads(file.read_text())
    of_image: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation["segmentation"])
    folder = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    for image in content["images"]:
        size = (image["height"], image["width"])
        masks = [_decoded(segment, size) for segment in of_image[image["id"]]]
        photo = read_photo(folder / image["file_name"])
        yield _from_masks(image["file_name"], photo, masks)


def _sa1b(folder: Path, pairs: list[tuple[Path, Path]]) -> Iterator[Truth]:
    for file, photo in pairs:
        content = json.loads(file.read_text())
        size = (content["image"]["height"], content["image"]["width"])
        masks = [_decoded(a["segmentation"], size) for a in content["annotations"]]
        yield _from_masks(str(photo.relative_to(folder)), read_photo(photo), masks)


def _from_masks(name: str, photo: NDArray[np.uint8], masks: list[NDArray[np.bool_]]) -> Truth:
    labels = labels_from_masks(masks, (photo.shape[0], photo.shape[1]))
    # Objects alone leave most of a photo unmarked, where boundaries are then unknown.
    return Truth(name, photo, labels, complete=bool((labels > 0).mean() > 0.9))


def _label_maps(folder: Path) -> Iterator[Truth]:
    photos = next((folder / n for n in ("photos", "images") if (folder / n).is_dir()), folder)
    for photo in _photos(photos):
        stem = photo.relative_to(photos).with_suffix("")
        for suffix in (".npy", ".png"):
            file = (folder / "labels" / stem).with_suffix(suffix)
            if file.is_file():
                labels = _read_labels(file)
                yield Truth(str(stem), read_photo(photo), labels, bool((labels > 0).mean() > 0.9))
                break


def _read_labels(file: Path) -> Labels:
    raw = np.load(file, allow_pickle=False) if file.suffix == ".npy" else np.array(Image.open(file))
    if raw.ndim not in (2, 3):
        raise ValueError(f"{file}: a label map is (H, W) or (K, H, W), not {raw.shape}")
    maps = raw[None] if raw.ndim == 2 else raw
    # Numbers of any size become 1, 2, 3 … map by map; 0 stays unknown.
    dense = []
    for one in maps:
        values, index = np.unique(one, return_inverse=True)
        dense.append(index.reshape(one.shape) + (0 if values[0] == 0 else 1))
    return np.stack(dense).astype(np.int16)


def _decoded(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (H, W) of COCO's three spellings: polygons, counts, or the compressed string alone."""
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation, str):
        rle = {"size": list(size), "counts": segmentation.encode()}
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, *size)
    else:
        rle = segmentation
    mask: NDArray[np.bool_] = coco_mask.decode(rle).astype(bool)
    return mask


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Return a photo as stored, uint8 (H, W, 3) RGB: truth is drawn on stored pixels."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _photos(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)


def _is_coco(file: Path) -> bool:
    content = json.loads(file.read_text())
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()
