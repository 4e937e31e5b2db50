"""LabelledImage in the formats that people have."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from everything.errors import InputError
from everything.io.datasets.annotations import NO_MASK, OTHER_SIZE
from everything.io.datasets.coco import CocoReader
from everything.io.datasets.image_names import ImageFinder
from everything.io.datasets.label_maps import (
    LabelledImage,
    labels_from_masks,
    mirrored,
    read_labelled_images,
)

SIZE = (6, 8)


def left_and_right() -> list[np.ndarray]:
    left = np.zeros(SIZE, bool)
    left[:, :4] = True
    return [left, ~left]


def rle(mask: np.ndarray) -> dict[str, object]:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SIZE), "counts": code["counts"].decode()}


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(path)
    return path


def check(truths: list[LabelledImage]) -> None:
    assert len(truths) == 1
    labels = truths[0].labels
    assert labels.shape == (1, *SIZE)
    assert truths[0].pixels.shape == (*SIZE, 3)
    assert truths[0].complete
    assert len(np.unique(labels[0, :, :4])) == 1
    assert len(np.unique(labels[0, :, 4:])) == 1
    assert labels[0, 0, 0] != labels[0, 0, -1]


def test_a_mirrored_photo_has_its_regions_where_they_are_seen() -> None:
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (*SIZE, 3), np.uint8)
    labels = random.integers(0, 5, (2, *SIZE)).astype(np.int16)
    other = mirrored(LabelledImage("a", photo, labels, complete=False))
    for x in range(SIZE[1]):
        assert (other.pixels[:, -1 - x] == photo[:, x]).all()
        assert (other.labels[:, :, -1 - x] == labels[:, :, x]).all()
    assert not other.complete


def test_coco(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    annotations = [
        {"id": i, "image_id": 7, "segmentation": rle(m)} for i, m in enumerate(left_and_right())
    ]
    images = [{"id": 7, "file_name": "a.png", "height": 6, "width": 8}]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    check(list(read_labelled_images(tmp_path)))
    check(list(read_labelled_images(file)))


def test_coco_polygons_and_plain_counts(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    annotations = [
        {"id": 1, "image_id": 1, "segmentation": [[0, 0, 4, 0, 4, 6, 0, 6]]},
        {"id": 2, "image_id": 1, "segmentation": {"size": [6, 8], "counts": [24, 24]}},
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    check(list(read_labelled_images(tmp_path)))


def test_sa1b(tmp_path: Path) -> None:
    photo(tmp_path / "deep" / "a.jpg")
    content = {
        "image": {"height": 6, "width": 8},
        "annotations": [{"segmentation": rle(m)} for m in left_and_right()],
    }
    (tmp_path / "deep" / "a.json").write_text(json.dumps(content))
    check(list(read_labelled_images(tmp_path)))


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_label_maps(tmp_path: Path, suffix: str) -> None:
    photo(tmp_path / "images" / "a.jpg")
    photo(tmp_path / "images" / "without_labels.jpg")
    (tmp_path / "labels").mkdir()
    labels = np.where(left_and_right()[0], 17, 200).astype(np.uint8)
    file = tmp_path / "labels" / f"a{suffix}"
    if suffix == ".png":
        Image.fromarray(labels).save(file)
    else:
        np.save(file, labels)
    check(list(read_labelled_images(tmp_path)))


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees to the right
    stored = np.zeros((8, 6, 3), np.uint8)
    stored[0, 0] = 255
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(stored).save(tmp_path / "images" / "a.png", exif=exif)
    np.save(tmp_path / "labels" / "a.npy", np.ones(SIZE, np.uint8))
    (image,) = read_labelled_images(tmp_path)
    assert image.pixels.shape == (*SIZE, 3)
    assert (image.pixels[0, -1] == 255).all()


def test_coco_images_are_found_in_the_folders_where_tools_put_them(tmp_path: Path) -> None:
    annotation = {"image_id": 1, "segmentation": rle(np.ones(SIZE, bool))}
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    for number, place in enumerate(["images", ".", "../images/default", "..", "../images"]):
        file = tmp_path / str(number) / "annotations" / "c.json"
        image = photo(file.parent / place / "a.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": [annotation]}))
        found = ImageFinder(file).find("a.png")
        assert found is not None
        assert (found.folder.samefile(image.parent), found.name) == (True, "a.png")
    assert ImageFinder(file).find("b.png") is None
    assert ImageFinder(file).find("b" * 300) is None


def test_a_bad_annotation_of_coco_is_left_out_with_its_reason(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    wrong = rle(np.ones(SIZE, bool)) | {"size": [8, 6]}
    rows = [{"image_id": 1, "segmentation": s} for s in (wrong, rle(np.ones(SIZE, bool)))]
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    file = tmp_path / "c.json"
    # A byte order mark is none of the JSON.
    file.write_text(
        "\ufeff" + json.dumps({"images": images, "annotations": [*rows, {"image_id": 1}]})
    )
    reader = CocoReader(file)
    (image,) = reader
    assert len(image.annotations) == 1
    assert reader.tally.left_out == {OTHER_SIZE: 1, NO_MASK: 1}
    assert "size [8, 6], the image's [6, 8]" in reader.tally.examples[0]
    (labelled,) = read_labelled_images(file)
    assert (labelled.labels == 1).all()


def test_data_pack_keeps_annotators_apart_and_splits(tmp_path: Path) -> None:
    left, right = left_and_right()
    images = []
    for split in ("train", "val"):
        photo(tmp_path / f"{split}.png")
        codes = [rle(m)["counts"] for m in (left, right, left | right)]
        segments = [[0, codes[0]], [0, codes[1]], [1, codes[2]]]
        images.append(
            {"file": f"{split}.png", "split": split, "height": 6, "width": 8}
            | {"annotators": 2, "segments": segments}
        )
    with lzma.open(tmp_path / "annotations.json.xz", "wt") as file:
        json.dump({"images": images}, file)
    truths = list(read_labelled_images(tmp_path, "train"))
    assert [truth.name for truth in truths] == ["train.png"]
    assert truths[0].labels.shape == (2, *SIZE)
    assert truths[0].labels[0, 0].tolist() == [1] * 4 + [2] * 4
    assert (truths[0].labels[1] == 1).all()
    assert len(list(read_labelled_images(tmp_path))) == 2


def test_objects_alone_leave_the_rest_unknown(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    content = {
        "image": {"height": 6, "width": 8},
        "annotations": [{"segmentation": rle(left_and_right()[0])}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    (truth,) = read_labelled_images(tmp_path)
    assert not truth.complete
    assert (truth.labels[0, :, 4:] == 0).all()


def test_parts_lie_on_top_of_wholes() -> None:
    whole, part = np.ones(SIZE, bool), np.zeros(SIZE, bool)
    part[2, 2] = True
    for masks in ([whole, part], [part, whole]):
        labels = labels_from_masks(masks, SIZE)
        assert labels[0, 2, 2] != labels[0, 0, 0]
    assert (labels_from_masks([], SIZE) == 0).all()


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="no ground truth"):
        read_labelled_images(tmp_path)


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match="4 x 4 px, its labels 5 x 4"):
        LabelledImage("a", np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 5), np.int16))


def test_truth_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such file or folder"):
        read_labelled_images(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "images",
    [
        None,
        [7],
        [{"file": "a.png", "height": 6, "width": 8}],
        [{"file": "a.png", "height": "6", "width": 8, "segments": []}],
        [{"file": "a.png", "height": 6, "width": 8, "segments": [[0, "no code"]]}],
        [{"file": "a.png", "height": 6, "width": 8, "annotators": 1, "segments": [[3, "PP"]]}],
    ],
)
def test_a_malformed_data_pack_is_one_line(tmp_path: Path, images: object) -> None:
    photo(tmp_path / "a.png")
    file = tmp_path / "annotations.json.xz"
    with lzma.open(file, "wt") as content:
        json.dump({"images": images}, content)
    for _ in range(2):
        with pytest.raises(InputError, match="not a data pack") as caught:
            list(read_labelled_images(tmp_path))
        assert "\n" not in str(caught.value)
        file.write_bytes(file.read_bytes()[:-8])  # cut off


def test_an_unknown_split_names_those_there_are(tmp_path: Path) -> None:
    pack = [{"file": "a.png", "split": "val", "height": 6, "width": 8, "segments": []}]
    with lzma.open(tmp_path / "annotations.json.xz", "wt") as content:
        json.dump({"images": pack}, content)
    with pytest.raises(InputError, match="choose one of val"):
        list(read_labelled_images(tmp_path, "test"))
