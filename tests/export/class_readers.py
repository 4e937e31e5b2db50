"""Reads the classes of an export of the image x.png: all of them, and each mask's."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import yaml
from PIL import Image

Found = tuple[list[str] | None, list[str]]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _coco(out: Path) -> Found:
    tree = _json(out / "annotations/instances_default.json")
    names = {one["id"]: one["name"] for one in tree["categories"]}
    return [*names.values()], [names[row["category_id"]] for row in tree["annotations"]]


def _panoptic(out: Path) -> Found:
    tree = _json(out / "panoptic.json")
    names = {one["id"]: one["name"] for one in tree["categories"]}
    segments = tree["annotations"][0]["segments_info"]
    return [*names.values()], [names[row["category_id"]] for row in segments]


def _yolo(out: Path) -> Found:
    names = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"]
    rows = (out / "labels/x.txt").read_text().splitlines()
    return [*names.values()], [names[int(row.split()[0])] for row in rows]


def _label_studio(out: Path) -> Found:
    config = ET.parse(out / "config.xml").getroot()
    (task,) = _json(out / "tasks.json")
    (prediction,) = task["predictions"]
    names = [one["value"]["brushlabels"][0] for one in prediction["result"]]
    return [str(one.get("value")) for one in config.iter("Label")], names


def _cvat(out: Path) -> Found:
    root = ET.parse(out / "annotations.xml").getroot()
    names = [str(one.findtext("name")) for one in root.iter("label")]
    return names, [str(one.get("label")) for one in root.iter("mask")]


def _voc(out: Path) -> Found:
    lines = (out / "labelmap.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[0] for line in lines if not line.startswith("#")]
    classes = np.array(Image.open(out / "SegmentationClass/x.png"))
    return names[1:], [names[number] for number in np.unique(classes[classes > 0])]


def _geojson(out: Path) -> Found:
    features = _json(out / "x.geojson")["features"]
    return None, [one["properties"]["classification"]["name"] for one in features]


def _mask_png(out: Path) -> Found:
    with (out / "x/metadata.csv").open(encoding="utf-8", newline="") as file:
        return None, [row["category"] for row in csv.DictReader(file)]


def _datasets(out: Path) -> Found:
    (path,) = out.glob("data/*.parquet")
    (row,) = pyarrow.parquet.read_table(path).to_pylist()
    return None, [one["category"] for one in row["objects"]]


READERS: dict[str, Callable[[Path], Found]] = {
    "coco": _coco,
    "yolo-seg": _yolo,
    "label-studio": _label_studio,
    "cvat": _cvat,
    "voc-png": _voc,
    "panoptic": _panoptic,
    "geojson": _geojson,
    "mask-png": _mask_png,
    "datasets": _datasets,
}
