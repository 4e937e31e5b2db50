"""Classes and crowds of imported annotations, in every format that they are exported to."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from everything.export.classes import Classes
from everything.export.run import export
from everything.io.results.categories import Category, merged
from everything.io.results.reader import Results
from everything.io.storage.local import Folder
from everything.jobs.import_labels import import_labels

CATEGORIES = [
    {"id": 7, "name": "a <dog> & \"co\"", "supercategory": "animal"},
    {"id": 3, "name": "cat"},
    {"id": 12, "name": "never seen"},
]  # fmt: skip
IDS, CROWDS = [3, 7, 7], [0, 1, 0]


def square(x: int, y: int) -> list[list[int]]:
    return [[x, y, x + 10, y, x + 10, y + 10, x, y + 10]]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    Image.new("RGB", (60, 40)).save(tmp_path / "x.jpg")
    rows = [
        {"id": n, "image_id": 1, "category_id": c, "iscrowd": crowd, "segmentation": shape}
        for n, (c, crowd, shape) in enumerate(
            zip(IDS, CROWDS, [square(2, 2), square(20, 20), square(40, 4)], strict=True)
        )
    ]
    images = [{"id": 1, "file_name": "x.jpg", "width": 60, "height": 40}]
    tree = {"images": images, "annotations": rows, "categories": CATEGORIES}
    (tmp_path / "c.json").write_text(json.dumps(tree))
    import_labels([tmp_path / "c.json"], tmp_path / "labels")
    return tmp_path / "labels"


def exported(labels: Path, to: str) -> tuple[Path, dict[str, Any]]:
    out = labels.parent / to
    fidelity = export(labels, to, out)
    assert fidelity.crowds == (0 if to in ("coco", "panoptic") else 1)
    assert fidelity.to_json()["crowds_as_masks"] == fidelity.crowds
    return out, fidelity.to_json()


def test_coco_has_the_classes_and_crowds_of_the_import(labels: Path):
    out, _ = exported(labels, "coco")
    tree = json.loads((out / "annotations" / "instances_default.json").read_bytes())
    expected = [{"supercategory": ""} | CATEGORIES[n] for n in (1, 0, 2)]
    assert tree["categories"] == expected
    assert [row["category_id"] for row in tree["annotations"]] == IDS
    assert [row["iscrowd"] for row in tree["annotations"]] == CROWDS


def test_panoptic_too(labels: Path):
    out, _ = exported(labels, "panoptic")
    tree = json.loads((out / "panoptic.json").read_bytes())
    assert [one["id"] for one in tree["categories"]] == [3, 7, 12]
    segments = tree["annotations"][0]["segments_info"]
    assert [(row["category_id"], row["iscrowd"]) for row in segments] == [(3, 0), (7, 1), (7, 0)]


def test_yolo_numbers_the_classes_by_their_ids(labels: Path):
    out, _ = exported(labels, "yolo-seg")
    rows = (out / "labels" / "x.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "1", "1"]
    names = yaml.safe_load((out / "data.yaml").read_text())["names"]
    assert names == {0: "cat", 1: 'a <dog> & "co"', 2: "never seen"}


def test_cvat_and_label_studio_name_them(labels: Path):
    out, _ = exported(labels, "cvat")
    root = ET.parse(out / "annotations.xml").getroot()
    names = ["cat", 'a <dog> & "co"', "never seen"]
    assert [one.findtext("name") for one in root.iter("label")] == names
    assert [one.get("label") for one in root.iter("mask")] == [names[0], names[1], names[1]]
    assert not list(out.glob("annotations.images"))
    out, _ = exported(labels, "label-studio")
    config = ET.parse(out / "config.xml").getroot()
    assert [one.get("value") for one in config.iter("Label")] == names
    (task,) = json.loads((out / "tasks.json").read_bytes())
    found = [one["value"]["brushlabels"] for one in task["predictions"][0]["result"]]
    assert found == [[names[0]], [names[1]], [names[1]]]


def test_voc_has_one_colour_for_each_class(labels: Path):
    out, _ = exported(labels, "voc-png")
    classes = np.array(Image.open(out / "SegmentationClass" / "x.png"))
    assert [classes[5, 5], classes[25, 25], classes[8, 45], classes[0, 0]] == [1, 2, 2, 0]
    lines = (out / "labelmap.txt").read_text().splitlines()
    assert lines[2:] == ["cat:128,0,0::", 'a <dog> & "co":0,128,0::', "never seen:128,128,0::"]


def test_geojson_names_them(labels: Path):
    out, _ = exported(labels, "geojson")
    features = json.loads((out / "x.geojson").read_bytes())["features"]
    found = [one["properties"]["classification"]["name"] for one in features]
    assert found == ["cat", 'a <dog> & "co"', 'a <dog> & "co"']


def test_an_export_comes_back_with_its_classes(labels: Path):
    out, _ = exported(labels, "coco")
    import_labels([out / "annotations" / "instances_default.json"], labels.parent / "again")
    again, before = Results(labels.parent / "again"), Results(labels)
    assert again.categories == before.categories
    for name in ("category", "iscrowd"):
        assert [row.get(name) for row in again.read("x.jpg").annotations] == [
            row.get(name) for row in before.read("x.jpg").annotations
        ]


def test_a_second_import_adds_its_classes(labels: Path, tmp_path: Path):
    images = [{"id": 1, "file_name": "y.jpg", "width": 9, "height": 9}]
    classes = [{"id": 3, "name": "bird"}, {"id": 1, "name": "cat"}]
    tree = {"images": images, "annotations": [], "categories": classes}
    (tmp_path / "d.json").write_text(json.dumps(tree))
    import_labels([tmp_path / "d.json"], labels)
    found = [(one.id, one.name) for one in Results(labels).categories]
    assert found == [(3, "cat"), (7, 'a <dog> & "co"'), (12, "never seen"), (13, "bird")]
    assert Folder(labels).read("categories.json") is not None


def test_classes_that_only_annotations_name_come_last():
    classes = Classes([Category(3, "cat")])
    assert [classes.row(one) for one in ({}, {"category": "cat"}, {"category": "dog"}, {})] == [
        1, 0, 2, 1,
    ]  # fmt: skip
    assert [(one.id, one.name) for one in classes.all()] == [(3, "cat"), (4, "object"), (5, "dog")]
    assert [one.name for one in Classes().all()] == ["object"]
    assert merged([], []) == []
