"""Readers whose dependencies clash with ours, in environments of their own.

DATUMARO_PYTHON: a Python with datumaro (1.13). LABEL_STUDIO_PYTHON: one with label-studio-sdk and
shapely. FIFTYONE_PYTHON: one with fiftyone and pycocotools; its database is not needed.
Not run where they are not set: test_readers.py reads the formats by their descriptions.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from everything.export.run import export
from everything.io.results.reader import Results
from tests.export.handed import write_handed, written_masks

DATUMARO, LABEL_STUDIO, FIFTYONE = (
    os.environ.get(f"{name}_PYTHON") for name in ("DATUMARO", "LABEL_STUDIO", "FIFTYONE")
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Results:
    home = tmp_path_factory.mktemp("handed")
    write_handed(home)
    # To datumaro, photos of one stem are one item.
    (home / "labels" / "annotations" / "a" / "four.jpg.json").unlink()
    return Results(home / "labels")


def areas(labels: Results, key: str) -> list[int]:
    return written_masks(labels, key).sum((1, 2)).tolist()


def run(python: str | None, script: str, *arguments: object) -> object:
    command = [str(python), "-W", "ignore", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


_DATUMARO = """
import json, sys
import numpy as np
from datumaro import Dataset, AnnotationType as T
found = {}
for item in Dataset.import_from(sys.argv[1], sys.argv[2]):
    shapes = [a for a in item.annotations if a.type in (T.mask, T.polygon)]
    found[item.id] = [a.image.astype(bool) if a.type == T.mask else None for a in shapes]
print(json.dumps({k: [np.packbits(m).tolist() for m in v] for k, v in found.items()}))
"""


@pytest.mark.skipif(not DATUMARO, reason="DATUMARO_PYTHON is not set")
@pytest.mark.parametrize(
    ("to", "reader"), [("coco", "coco"), ("cvat", "cvat"), ("voc-png", "voc_instance_segmentation")]
)
def test_datumaro(labels: Results, tmp_path: Path, to: str, reader: str):
    export(labels.root, to, tmp_path / "out", photos="copy")
    found = run(DATUMARO, _DATUMARO, tmp_path / "out", reader)
    assert isinstance(found, dict)
    assert len(found) == 3
    for name, key in {"a/four": "a/four.png", "b c é": "b c é.png"}.items():
        expected = written_masks(labels, key)
        if to == "voc-png":
            seen = np.zeros(expected.shape[1:], bool)
            for row in np.argsort(expected.sum((1, 2)), kind="stable"):
                expected[row], seen = expected[row] & ~seen, seen | expected[row]
        assert sorted(found[name]) == sorted(np.packbits(mask).tolist() for mask in expected)


_BRUSH = """
import json, sys
import numpy as np
from label_studio_sdk.converter.brush import decode_rle
found = []
for task in json.load(open(sys.argv[1])):
    for r in task["predictions"][0]["result"]:
        values = decode_rle(r["value"]["rle"]).reshape(r["original_height"], -1, 4)
        found.append(np.packbits(values[..., 3] > 0).tolist())
print(json.dumps(found))
"""


@pytest.mark.skipif(not LABEL_STUDIO, reason="LABEL_STUDIO_PYTHON is not set")
def test_label_studios_own_decoder(labels: Results, tmp_path: Path):
    export(labels.root, "label-studio", tmp_path / "out")
    found = run(LABEL_STUDIO, _BRUSH, tmp_path / "out" / "tasks.json")
    masks = [mask for key in labels.files for mask in written_masks(labels, key)]
    assert found == [np.packbits(mask).tolist() for mask in masks]


_INTERFACE = """
import json, sys
from pathlib import Path
from label_studio_sdk.label_interface import LabelInterface
home = Path(sys.argv[1])
interface = LabelInterface((home / "config.xml").read_text())
interface.validate()
tasks = json.loads((home / "tasks.json").read_text())
print(json.dumps([interface.validate_prediction(p) for t in tasks for p in t["predictions"]]))
"""


@pytest.mark.skipif(not LABEL_STUDIO, reason="LABEL_STUDIO_PYTHON is not set")
def test_label_studios_interface_takes_every_prediction(labels: Results, tmp_path: Path):
    export(labels.root, "label-studio", tmp_path / "out")
    assert run(LABEL_STUDIO, _INTERFACE, tmp_path / "out") == [True] * len(labels.files)


_FIFTYONE = """
import json, sys
from pathlib import Path
import numpy as np
from fiftyone.utils.coco import COCODetectionDatasetImporter
home = Path(sys.argv[1])
images, found = home / "images" / "default", {}
with COCODetectionDatasetImporter(
    data_path=str(images),
    labels_path=str(home / "annotations" / "instances_default.json"),
    label_types="segmentations",
) as importer:
    for path, size, labels in importer:
        masks = []
        for one in labels.detections if labels else []:
            x, y = round(one.bounding_box[0] * size.width), round(one.bounding_box[1] * size.height)
            mask = np.zeros((size.height, size.width), bool)
            mask[y : y + one.mask.shape[0], x : x + one.mask.shape[1]] = one.mask
            masks.append(np.packbits(mask).tolist())
        found[str(Path(path).relative_to(images))] = masks
print(json.dumps(found))
"""


@pytest.mark.skipif(not FIFTYONE, reason="FIFTYONE_PYTHON is not set")
def test_fiftyones_coco_importer(labels: Results, tmp_path: Path):
    export(labels.root, "coco", tmp_path / "out", photos="copy")
    assert run(FIFTYONE, _FIFTYONE, tmp_path / "out") == {
        key: [np.packbits(mask).tolist() for mask in written_masks(labels, key)]
        for key in labels.files
    }


_SHAPELY = """
import json, sys
from shapely.geometry import shape
features = json.load(open(sys.argv[1]))["features"]
shapes = [shape(feature["geometry"]) for feature in features]
print(json.dumps([[s.is_valid, s.area] for s in shapes]))
"""


@pytest.mark.skipif(not LABEL_STUDIO, reason="LABEL_STUDIO_PYTHON is not set")
def test_shapely(labels: Results, tmp_path: Path):
    export(labels.root, "geojson", tmp_path / "out")
    found = run(LABEL_STUDIO, _SHAPELY, tmp_path / "out" / "a" / "four.geojson")
    assert found == [[True, area] for area in areas(labels, "a/four.png")]
