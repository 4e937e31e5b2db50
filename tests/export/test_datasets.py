"""The parquet files as Hugging Face's `datasets` reads them."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco

from everything.export import datasets as module
from everything.export.run import export
from everything.io.images.decode import read_image
from everything.io.results.reader import Results
from everything.masks.segments import Segments
from tests.export.handed import write_handed, written_masks
from tests.labelled import disc, write_labels


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write_handed(tmp_path_factory.mktemp("handed"))


def loaded(folder: Path) -> datasets.Dataset:
    found = datasets.load_dataset(str(folder), split="train")
    assert isinstance(found, datasets.Dataset)
    return found


def test_masks_images_and_boxes_in_one_line(labels: Results, tmp_path: Path) -> None:
    fidelity = export(labels.root, "datasets", tmp_path / "out")
    assert (fidelity.masks, fidelity.total, fidelity.left_out) == (10, 10, 1)
    rows = loaded(tmp_path / "out")
    assert rows["file_name"] == list(labels.files)
    assert isinstance(rows.features["image"], datasets.Image)
    for row in rows:
        masks = written_masks(labels, row["file_name"])
        assert row["image"].size == (row["width"], row["height"])
        assert len(row["objects"]) == len(masks)
        for one, mask in zip(row["objects"], masks, strict=True):
            assert (coco.decode(one["segmentation"]) == mask).all()
            x, y, w, h = one["bbox"]
            assert [x, x + w - 1] == np.flatnonzero(mask.any(0))[[0, -1]].tolist()
            assert [y, y + h - 1] == np.flatnonzero(mask.any(1))[[0, -1]].tolist()
            assert one["area"] == mask.sum()
            assert (one["category"], one["iscrowd"]) == ("object", False)
            assert one["level"] in (None, "whole", "part", "subpart")
        segments = Segments.from_sa1b(row["objects"], (row["height"], row["width"]))
        assert segments.areas.tolist() == masks.sum((1, 2)).tolist()


def test_a_stream_and_plain_parquet_are_read_too(labels: Results, tmp_path: Path) -> None:
    export(labels.root, "hf", tmp_path / "out")
    (file,) = (tmp_path / "out" / "data").iterdir()
    assert file.name == "train-00000-of-00001.parquet"
    stream = datasets.load_dataset("parquet", data_files=str(file), split="train", streaming=True)
    row = next(iter(stream))
    assert row["image"].size == (row["width"], row["height"])
    table = pq.read_table(file)
    assert table["objects"].type == module.schema().field("objects").type


def test_levels_and_parents(tmp_path: Path) -> None:
    whole, part = disc((60, 60), (30, 30), 24), disc((60, 60), (30, 30), 8)
    write_labels(tmp_path / "l", tmp_path / "p", {"x.png": [part, whole]})
    export(tmp_path / "l", "datasets", tmp_path / "all")
    assert [one["level"] for one in loaded(tmp_path / "all")[0]["objects"]] == ["part", "whole"]
    export(tmp_path / "l", "datasets", tmp_path / "parts", level="part")
    assert [one["level"] for one in loaded(tmp_path / "parts")[0]["objects"]] == ["part"]


def test_images_are_inside_or_linked_or_left_out(labels: Results, tmp_path: Path) -> None:
    for how, has_bytes in (("copy", True), ("link", False)):
        export(labels.root, "datasets", tmp_path / how, photos=how)
        row = loaded(tmp_path / how).cast_column("image", datasets.Image(decode=False))[0]
        assert (row["image"]["bytes"] is not None) == has_bytes
        assert loaded(tmp_path / how)[0]["image"].size == (row["width"], row["height"])
    export(labels.root, "datasets", tmp_path / "none", photos="none")
    assert loaded(tmp_path / "none")[0]["image"] is None


def test_what_datasets_would_not_read_as_labelled_is_converted(tmp_path: Path) -> None:
    photos, mask = tmp_path / "p", disc((40, 60), (20, 20), 9)
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.save(photos / "page.avif", quality=100)
    image.save(photos / "same.webp", lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    image.rotate(90, expand=True).save(photos / "turned.jpg", exif=turned, quality=95)
    names = ["page.avif", "same.webp", "turned.jpg"]
    write_labels(tmp_path / "l", photos, {key: [mask] for key in names})
    fidelity = export(tmp_path / "l", "datasets", tmp_path / "out")
    assert (fidelity.images_converted, fidelity.images_not_found) == (1, 0)
    for row in loaded(tmp_path / "out"):
        expected = read_image(photos / row["file_name"]).pixels
        assert (np.asarray(row["image"].convert("RGB")) == expected).all()


def test_missing_and_changed_images_are_counted_and_their_masks_kept(tmp_path: Path) -> None:
    names = ["gone.png", "other.png", "there.png"]
    write_labels(tmp_path / "l", tmp_path / "p", {key: [disc((9, 9), (4, 4), 3)] for key in names})
    (tmp_path / "p" / "gone.png").unlink()
    Image.new("RGB", (5, 5)).save(tmp_path / "p" / "other.png")
    fidelity = export(tmp_path / "l", "datasets", tmp_path / "out")
    assert (fidelity.images_not_found, fidelity.images_changed, fidelity.masks) == (1, 1, 3)
    rows = loaded(tmp_path / "out")
    assert [row["image"] is None for row in rows] == [True, True, False]
    assert [len(row["objects"]) for row in rows] == [1, 1, 1]


def test_many_images_become_several_files(
    labels: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", 1)
    monkeypatch.setattr(module, "_FILE", 100)
    export(labels.root, "datasets", tmp_path / "out")
    names = [path.name for path in sorted((tmp_path / "out" / "data").iterdir())]
    assert names == [f"train-{number:05d}-of-00004.parquet" for number in range(4)]
    assert loaded(tmp_path / "out")["file_name"] == list(labels.files)


def test_ids_of_other_programs() -> None:
    assert [module._int64(value) for value in (7, True, None, "a", 2**70)] == [
        7,
        1,
        None,
        None,
        None,
    ]
