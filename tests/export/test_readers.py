"""Each format read by somebody else's reader, or decoded from its description."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import supervision
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from everything.export.mask_png import COLUMNS
from everything.export.run import export
from everything.io.results.reader import Results
from tests.export.handed import iou, write_handed, written_masks

Masks = NDArray[np.bool_]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write_handed(tmp_path_factory.mktemp("handed"))


def coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path / "annotations" / "instances_default.json")


@pytest.mark.parametrize("polygons", [False, True])
def test_coco_by_pycocotools(labels: Results, tmp_path: Path, polygons: bool):
    fidelity = export(labels.root, "coco", tmp_path / "out", polygons=polygons, photos="link")
    read = coco(tmp_path / "out")
    assert [image["file_name"] for image in read.dataset["images"]] == list(labels.files)
    for image in read.dataset["images"]:
        assert (tmp_path / "out" / "images" / "default" / image["file_name"]).is_file()
        annotations = read.loadAnns(read.getAnnIds([image["id"]]))
        expected = written_masks(labels, image["file_name"])
        assert len(annotations) == len(expected)
        for annotation, mask in zip(annotations, expected, strict=True):
            assert (read.annToMask(annotation) == mask).all()
            assert annotation["area"] == mask.sum()
            x, y, w, h = annotation["bbox"]
            assert [x, x + w - 1] == np.flatnonzero(mask.any(0))[[0, -1]].tolist()
            assert [y, y + h - 1] == np.flatnonzero(mask.any(1))[[0, -1]].tolist()
    assert (fidelity.masks, fidelity.left_out, fidelity.total) == (10, 1, 10)


def test_coco_by_supervision(labels: Results, tmp_path: Path):
    export(labels.root, "coco", tmp_path / "out", photos="copy")
    images = tmp_path / "out" / "images" / "default"
    file = tmp_path / "out" / "annotations" / "instances_default.json"
    dataset = supervision.DetectionDataset.from_coco(str(images), str(file))
    assert len(dataset) == len(labels.files)
    for path, _, detections in dataset:
        expected = written_masks(labels, Path(path).relative_to(images).as_posix())
        if detections.mask is None:
            assert len(expected) == 0
        else:
            assert (detections.mask == expected).all()


def test_panoptic_from_its_description(labels: Results, tmp_path: Path):
    """https://cocodataset.org/#format-data: id = R + 256 G + 256^2 B, 0 is unlabelled."""
    export(labels.root, "panoptic", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "panoptic.json").read_bytes())
    assert content["categories"][0]["isthing"] == 1
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        assert annotation["image_id"] == image["id"]
        colours = np.array(Image.open(tmp_path / "out" / "panoptic" / annotation["file_name"]))
        ids = colours.astype(np.int64) @ [1, 256, 65536]
        masks = written_masks(labels, image["file_name"])
        smallest_first = sorted(range(len(masks)), key=lambda row: masks[row].sum())
        seen = np.zeros(ids.shape, bool)
        for row in smallest_first:
            visible = masks[row] & ~seen
            seen |= masks[row]
            assert ((ids == row + 1) == visible).all()
        assert ((ids == 0) == ~seen).all()
        infos = annotation["segments_info"]
        assert [info["id"] for info in infos] == np.unique(ids[ids > 0]).tolist()
        for info in infos:
            ys, xs = np.nonzero(ids == info["id"])
            assert info["area"] == len(xs)
            size = [np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert info["bbox"] == [xs.min(), ys.min(), *size]


def test_mask_pngs_as_amg_writes_them(labels: Results, tmp_path: Path):
    export(labels.root, "mask-png", tmp_path / "out")
    for key in labels.files:
        stem = {"a/four.png": "a/four_png", "a/four.jpg": "a/four_jpg"}.get(key, key[:-4])
        with (tmp_path / "out" / stem / "metadata.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        expected = written_masks(labels, key)
        assert [row["id"] for row in rows] == [str(number) for number in range(len(expected))]
        for row, mask in zip(rows, expected, strict=True):
            with Image.open(tmp_path / "out" / stem / f"{row['id']}.png") as image:
                pixels = np.asarray(image)
            assert pixels.dtype == np.uint8
            assert (pixels == 255 * mask).all()
            assert int(row["area"]) == mask.sum()
            x, y, w, h = (float(row[f"bbox_{side}"]) for side in ("x0", "y0", "w", "h"))
            assert [x, x + w] == np.flatnonzero(mask.any(0))[[0, -1]].tolist()
            assert [y, y + h] == np.flatnonzero(mask.any(1))[[0, -1]].tolist()
    assert list(rows[0] if rows else COLUMNS) == list(COLUMNS)


def test_yolo_seg_by_ultralytics_loader(labels: Results, tmp_path: Path):
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER

    LOGGER.setLevel("ERROR")
    fidelity = export(labels.root, "yolo-seg", tmp_path / "out", photos="copy")
    assert fidelity.least > 0.9
    dataset = YOLODataset(
        img_path=str(tmp_path / "out" / "images"),
        imgsz=160,
        augment=False,
        rect=False,
        data={"names": {0: "object"}, "nc": 1, "channels": 3},
        task="segment",
        hyp=_settings(),
    )
    assert len(dataset) == 4
    names = {"a/four_png": "a/four.png", "a/four_jpg": "a/four.jpg", "b c é": "b c é.png",
             "empty": "empty.png"}  # fmt: skip
    for row in range(len(dataset)):
        stem = Path(dataset.im_files[row]).relative_to(tmp_path / "out" / "images")
        key = names[stem.with_suffix("").as_posix()]
        found = dataset[row]["masks"].numpy().astype(bool)
        expected = written_masks(labels, key)
        assert len(found) == len(expected)
        if key == "a/four.png":  # 160 px wide, so it is not resized; padded above and below
            found = found[:, 20:140]
            ious = sorted(max(iou(mask, other) for other in found) for mask in expected)
            assert ious[0] == pytest.approx(fidelity.least, abs=0.01)
            assert ious[1:] == [1.0] * (len(ious) - 1)


def _settings() -> object:
    from ultralytics.cfg import get_cfg

    return get_cfg(overrides={"mask_ratio": 1, "overlap_mask": False, "task": "segment"})


def test_label_studio_from_its_description(labels: Results, tmp_path: Path):
    export(labels.root, "label-studio", tmp_path / "out", url="https://here/")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_bytes())
    assert [task["meta"]["file_name"] for task in tasks] == list(labels.files)
    assert tasks[2]["data"]["image"] == "https://here/b%20c%20%C3%A9.png"
    for task in tasks:
        expected = written_masks(labels, task["meta"]["file_name"])
        (prediction,) = task["predictions"]
        for found, mask in zip(prediction["result"], expected, strict=True):
            assert (found["original_height"], found["original_width"]) == mask.shape
            values = rle_pack(found["value"]["rle"]).reshape(*mask.shape, 4)
            assert (values == np.where(mask, 255, 0)[..., None]).all()


def rle_pack(code: list[int]) -> NDArray[np.uint8]:
    """thi.ng's rle-pack, as its page describes it."""
    bits = "".join(f"{byte:08b}" for byte in code)
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    count, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated = read(1)
        length = read(widths[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values, np.uint8)


def test_cvat_from_its_description(labels: Results, tmp_path: Path):
    export(labels.root, "cvat", tmp_path / "out")
    root = ET.parse(tmp_path / "out" / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    images = root.findall("image")
    assert [image.get("name") for image in images] == list(labels.files)
    for image in images:
        expected = written_masks(labels, str(image.get("name")))
        found = image.findall("mask")
        tops = [int(mask.attrib["z_order"]) for mask in found]
        assert (np.diff(expected.sum((1, 2))[np.argsort(tops)]) <= 0).all()
        for one, mask in zip(found, expected, strict=True):
            x, y, w, h = (int(one.attrib[name]) for name in ("left", "top", "width", "height"))
            runs = [int(length) for length in one.attrib["rle"].split(",")]
            flat = np.repeat(np.arange(len(runs)) % 2, runs)
            canvas = np.zeros_like(mask)
            canvas[y : y + h, x : x + w] = flat.reshape(h, w)
            assert (canvas == mask).all()


def test_voc_from_its_description(labels: Results, tmp_path: Path):
    export(labels.root, "voc-png", tmp_path / "out")
    home = tmp_path / "out"
    stems = (home / "ImageSets" / "Segmentation" / "default.txt").read_text().splitlines()
    assert stems == ["a/four_jpg", "a/four_png", "b c é", "empty"]
    keys = dict(zip(stems, labels.files, strict=True))
    for stem in stems:
        objects = Image.open(home / "SegmentationObject" / f"{stem}.png")
        classes = Image.open(home / "SegmentationClass" / f"{stem}.png")
        assert (objects.mode, classes.mode) == ("P", "P")
        assert objects.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        masks = written_masks(labels, keys[stem])
        covered = masks.any(0) if len(masks) else np.zeros(np.array(objects).shape, bool)
        assert ((np.array(objects) > 0) == covered).all()
        assert (np.array(classes) == covered).all()
        assert list((home / "JPEGImages").glob(f"{stem}.*"))


def test_geojson_from_its_rfc(labels: Results, tmp_path: Path):
    """RFC 7946: rings closed, the outer one against the inner ones."""
    export(labels.root, "geojson", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "a" / "four_png.geojson").read_bytes())
    masks = written_masks(labels, "a/four.png")
    assert content["type"] == "FeatureCollection"
    for feature, mask in zip(content["features"], masks, strict=True):
        shape = feature["geometry"]
        multi = shape["type"] == "MultiPolygon"
        polygons = shape["coordinates"] if multi else [shape["coordinates"]]
        assert multi == (len(polygons) > 1)
        areas = [[_area(ring) for ring in polygon] for polygon in polygons]
        assert sum(map(sum, areas)) == mask.sum()
        for polygon, (outer, *inner) in zip(polygons, areas, strict=True):
            assert outer > 0
            assert all(area < 0 for area in inner)
            assert all(ring[0] == ring[-1] for ring in polygon)
    assert len(content["features"][2]["geometry"]["coordinates"]) == 4


def _area(ring: list[list[int]]) -> float:
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
