"""Labels of YOLO-seg, CVAT and folders in SA-1B's format: round trips, and mistakes in them."""

from __future__ import annotations

import json
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from everything.core import rle
from everything.errors import InputError
from everything.evaluation.mask_scores import evaluate
from everything.export.run import export
from everything.io.datasets.image_masks import images_with_masks
from everything.io.results.reader import Results
from everything.jobs.import_labels import Imported, import_labels
from tests.export.handed import iou, write_handed, written_masks
from tests.fakes import save_photo
from tests.labelled import records


def yolo(home: Path, labels: str, data: str = "train: images\nnames: [cat, dog]\n") -> Path:
    save_photo(home / "images/x.png", size=(40, 50))
    (home / "labels").mkdir()
    (home / "labels/x.txt").write_text(labels)
    (home / "data.yaml").write_text(data)
    return home


def cvat(home: Path, shapes: str, head: str = "") -> Path:
    save_photo(home / "images/x.png", size=(40, 50))
    (home / "annotations.xml").write_text(
        f'<?xml version="1.0"?>{head}<annotations><meta><task><labels><label><name>cat</name>'
        f'</label></labels></task></meta><image id="0" name="x.png" width="50" height="40">{shapes}'
        "</image></annotations>"
    )
    return home


def only(out: Path, name: str = "x.png") -> list[np.ndarray]:
    result = Results(out).read(name)
    return list(rle.decode([a["segmentation"] for a in result.annotations], result.size))


@pytest.mark.parametrize(("to", "least"), [("cvat", 1.0), ("yolo-seg", 0.9)])
def test_what_was_exported_comes_back(tmp_path: Path, to: str, least: float) -> None:
    before = write_handed(tmp_path)
    fidelity = export(before.root, to, tmp_path / "there", photos="link")
    done = import_labels([tmp_path / "there"], tmp_path / "back")
    assert (done.masks, done.failed, done.tally.left_out.total()) == (fidelity.masks, 0, 0)
    after = Results(tmp_path / "back")
    # YOLO's labels go by stems, so that a/four.jpg and a/four.png are renamed.
    renamed = {"a/four.jpg": "a/four_jpg.jpg"} if to == "yolo-seg" else {}
    found = [
        iou(a, b)
        for key in ("a/four.jpg", "b c é.png")
        for a, b in zip(
            written_masks(before, key), written_masks(after, renamed.get(key, key)), strict=True
        )
    ]
    assert min(found) >= least
    assert all(after.image(key, key) is not None for key in after.files)
    total = sum(len(after.read(key).annotations) for key in after.files)
    assert total == fidelity.masks
    again = import_labels([tmp_path / "there"], tmp_path / "back")
    assert (again.photos, again.skipped) == (0, done.photos)


def test_yolo_lines_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    good = "1 .1 .1 .5 .1 .5 .5 .1 .5\n"
    bad = ["0 .5 .5 .2 .2", "7 .1 .1 .5 .1 .5 .5", "0 .1 .1 .5 .1 .5 1.5", "0 .1 x .5",
           "0 .1 .1 .5 .1 .5", "0 .1 .1", "0 nan .1 .5 .1 .5 .5"]  # fmt: skip
    home = yolo(tmp_path / "set", good + "\n\n".join(bad))
    (home / "labels/nobody.txt").write_text(good)
    done = import_labels([home / "data.yaml"], tmp_path / "out")
    assert (done.photos, done.masks, done.failed) == (1, 1, 1)
    assert done.tally.left_out == {
        "no mask (a box only, or nothing)": 1,
        "a class that data.yaml does not list": 1,
        "coordinates that are not between 0 and 1": 2,
        "not a mask in one of COCO's forms": 2,
        "a polygon of fewer than three points": 1,
    }
    assert any("labels/x.txt, line 2: left out: a box" in one for one in done.failures)
    (mask,) = only(tmp_path / "out")
    expected = np.zeros((40, 50), bool)
    expected[4:21, 5:26] = True  # with its border, as ultralytics fills it
    assert (mask == expected).all()
    assert Results(tmp_path / "out").read("x.png").annotations[0]["category"] == "dog"
    assert [one.name for one in Results(tmp_path / "out").categories] == ["cat", "dog"]


def test_yolo_places(tmp_path: Path) -> None:
    line = "0 .1 .1 .5 .1 .5 .5\n"
    home = yolo(tmp_path / "set", line, "path: /gone\ntrain: images\nval: [images]\nnames: {0: a}")
    (home / "images").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"no such folder or list of images.*: give --photos"):
        import_labels([home], tmp_path / "out")
    done = import_labels([home], tmp_path / "out", tmp_path / "moved")
    assert (done.photos, done.masks, done.failed) == (1, 1, 0)
    assert Results(tmp_path / "out").image("x.png", "x.png") is not None


LINE = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"


@pytest.mark.parametrize(
    "data",
    [
        "train: ../images\nval: ../valid/images\ntest: ../test/images\nnames: [a]",
        "train: .\\images\nnames: [a]",
        "train: l.txt\nnames: [a]",
    ],
)
def test_yolo_places_that_are_gone_or_written_on_windows(tmp_path: Path, data: str) -> None:
    home = yolo(tmp_path / "set", LINE, data)
    (home / "l.txt").write_bytes(b"\xef\xbb\xbfimages\\x.png\r\n")
    done = import_labels([home], tmp_path / "o")
    assert (done.photos, done.masks, done.failed) == (1, 1, data.count("../") - ("../" in data))


def test_yolo_without_any_place_or_label_is_an_error(tmp_path: Path) -> None:
    home = yolo(tmp_path / "set", LINE, "train: gone\nnames: [a]")
    with pytest.raises(InputError, match=r"no images where it says .*gone: no such folder"):
        import_labels([home], tmp_path / "o")
    (home / "labels").rename(home / "annotations")
    (home / "data.yaml").write_text("train: images\nnames: [a]")
    with pytest.raises(InputError, match=r"none of its 1 images has a file of labels: put"):
        import_labels([home], tmp_path / "o")


def test_yolo_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    home = yolo(tmp_path / "set", LINE + LINE.replace("0", "1", 1), "train: images\nnames: [a, a]")
    import_labels([home], tmp_path / "o")
    found = Results(tmp_path / "o").read("x.png").annotations
    assert [row["category"] for row in found] == ["a", "a (1)"]


def test_cvat_shapes(tmp_path: Path) -> None:
    shapes = (
        '<polygon label="cat" points="5,4;25,4;25,20;5,20"/>'
        '<mask label="cat" rle="2, 3, 1" left="1" top="2" width="3" height="2"/>'
        '<box label="cat" xtl="1" ytl="1" xbr="5" ybr="5"/><tag label="cat"/>'
        '<mask label="cat" rle="2, 3" left="1" top="2" width="3" height="2"/>'
        '<mask label="cat" rle="6" left="49" top="2" width="3" height="2"/>'
        '<mask label="cat" rle="a" left="0" top="0" width="1" height="1"/>'
        '<polygon label="cat" points="1,2;3"/><polygon label="cat" points="1,2;3,4"/>'
    )
    done = import_labels([cvat(tmp_path / "set", shapes)], tmp_path / "out")
    assert (done.photos, done.masks, done.failed) == (1, 2, 0)
    assert done.tally.left_out == {
        "no mask (CVAT's box)": 1,
        "no mask (CVAT's tag)": 1,
        "not a mask in one of COCO's forms": 3,
        "a mask whose box is not inside the image": 1,
        "a polygon of fewer than three points": 1,
    }
    polygon, mask = only(tmp_path / "out")
    assert polygon.sum() == 20 * 16
    assert [tuple(at) for at in np.argwhere(mask)] == [(2, 3), (3, 1), (3, 2)]
    assert {a["category"] for a in Results(tmp_path / "out").read("x.png").annotations} == {"cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><image", "not readable XML"),
        ("<other/>", "not CVAT's XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "DOCTYPE"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        import_labels([tmp_path / "annotations.xml"], tmp_path / "out")


def sa1b_folder(home: Path, images: Path) -> Path:
    for name in ("sa_1", "deep/sa_1"):
        save_photo(images / f"{name}.png", size=(40, 50))
        sa1b_file(home / f"{name}.json", "sa_1.png")
    (home / "zz.json").write_text("{}")
    return home


def sa1b_file(file: Path, name: str) -> None:
    mask = np.zeros((40, 50), bool)
    mask[3:9, 4:20] = True
    image = {"image_id": 1, "width": 50, "height": 40, "file_name": name}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"image": image, "annotations": records([mask])}))


@pytest.mark.parametrize("beside", [True, False])
def test_folders_of_sa1b(tmp_path: Path, beside: bool) -> None:
    images = tmp_path / ("json" if beside else "images")
    home = sa1b_folder(tmp_path / "json", images)
    photos = None if beside else images
    done: Imported = import_labels([home], tmp_path / "out", photos)
    assert (done.photos, done.masks, done.failed, done.tally.images_not_found) == (2, 2, 1, 0)
    results = Results(tmp_path / "out")
    assert sorted(results.files) == ["deep/sa_1.png", "sa_1.png"]
    assert all(results.image(key, key) is not None for key in results.files)


IN_PHOTOS = [
    *("photos/sa_1.png", "/data/sa1b/photos/sa_1.png", "..\\photos\\sa_1.png"),
    "https://host/photos/sa_1.png?key=secret",
]
SPELLINGS = ["sa_1.png", "./sa_1.png", "C:\\data\\sa_1.png", *IN_PHOTOS]


@pytest.mark.parametrize(
    ("where", "name"),
    [*product(["beside", "--photos"], SPELLINGS), *product(["photos"], IN_PHOTOS)],
)
def test_sa1b_names_with_folders_in_them(tmp_path: Path, where: str, name: str) -> None:
    home = tmp_path / "json"
    images = tmp_path / "elsewhere" if where == "--photos" else home
    image = images / "photos/sa_1.png" if where == "photos" else images / "sa_1.png"
    save_photo(image, size=(40, 50))
    sa1b_file(home / "sa_1.json", name)
    done = import_labels([home], tmp_path / "out", images if where == "--photos" else None)
    assert (done.photos, done.masks, done.failed, done.tally.images_not_found) == (1, 1, 0, 0)
    (key,) = Results(tmp_path / "out").files
    source = Results(tmp_path / "out").image(key, key)
    assert source is not None
    assert source.location == image
    ((pixels, masks),) = images_with_masks(home, None, 1, images=images)
    assert (pixels.shape, len(masks)) == ((40, 50, 3), 1)
    assert "secret" not in "".join(file.read_text() for file in (tmp_path / "out").rglob("*.json"))


@pytest.mark.parametrize(
    ("member", "name"),
    [*product(["sa_1.png"], SPELLINGS), *product(["photos/sa_1.png"], IN_PHOTOS)],
)
def test_sa1b_names_with_folders_in_tars(tmp_path: Path, member: str, name: str) -> None:
    save_photo(tmp_path / member, size=(40, 50))
    sa1b_file(tmp_path / "sa_1.json", name)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / member, f"sa/{member}")
        tar.add(tmp_path / "sa_1.json", "sa/sa_1.json")
    done = import_labels([tmp_path / "x.tar"], tmp_path / "out", tmp_path / "new")
    assert (done.photos, done.masks, done.failed, done.unpacked) == (1, 1, 0, 1)
    (key,) = Results(tmp_path / "out").files
    assert key == f"sa/{member}"
    assert Results(tmp_path / "out").image(key, key) is not None


def test_what_macos_adds_to_folders_and_tars_is_no_failure(tmp_path: Path) -> None:
    sa1b_file(tmp_path / "s/x.json", "x.jpg")
    (tmp_path / "s/._x.json").write_bytes(b"\0\5\26\7")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(tmp_path / "s", "s")
    for number, source in enumerate((tmp_path / "s", tmp_path / "s.tar")):
        done = import_labels([source], tmp_path / f"o{number}")
        assert (done.photos, done.failed) == (1, 0)


@pytest.mark.parametrize("annotations", ["null", "[]"])
def test_one_bad_json_blocks_no_folder(tmp_path: Path, annotations: str) -> None:
    home = sa1b_folder(tmp_path / "json", tmp_path / "json")
    (home / "a.json").write_bytes(b'{"image": "\xe9"}')
    image = '{"width": 9, "height": 9, "file_name": "b.png"}'
    (home / "b.json").write_text(f'{{"image": {image}, "annotations": {annotations}}}')
    done = import_labels([home], tmp_path / "out")
    assert (done.photos, done.masks, done.failed) == (3, 2, 2)
    assert any("a.json" in line and "save it as UTF-8" in line for line in done.failures)
    said = {"annotations are null, read as an empty list": 1} if annotations == "null" else {}
    assert done.tally.mended == said
    assert evaluate(tmp_path / "out", home, boundaries=False).segments == 2


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    one, other = cvat(tmp_path / "a", ""), yolo(tmp_path / "b", "")
    with pytest.raises(InputError, match="cvat and yolo-seg cannot share a results folder"):
        import_labels([one, other], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to import: give SA-1B tars"):
        import_labels([tmp_path / "empty"], tmp_path / "out")


def test_numbers_larger_than_any_float_cost_nothing(tmp_path: Path) -> None:
    sa1b_file(tmp_path / "json/sa_1.json", "sa_1.png")
    document = json.loads((tmp_path / "json/sa_1.json").read_text())
    document["annotations"][0] |= {"id": 10**400, "area": -(10**400), "predicted_iou": 10**400}
    (tmp_path / "json/sa_1.json").write_text(json.dumps(document))
    done = import_labels([tmp_path / "json"], tmp_path / "out")
    assert (done.photos, done.masks, done.failed) == (1, 1, 0)
    (found,) = Results(tmp_path / "out").read("sa_1.png").annotations
    assert (found["id"], found["predicted_iou"]) == (0, 1.0)
