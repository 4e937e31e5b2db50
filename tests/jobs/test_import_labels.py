"""Labels of others: SA-1B's tars and COCO files."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from everything.cli.main import app
from everything.core import rle
from everything.errors import ImageError, InputError, StoreError
from everything.evaluation.mask_scores import evaluate
from everything.export.run import export
from everything.io.datasets.coco import CocoReader
from everything.io.images.listing import list_images
from everything.io.images.sources import Source
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.io.results.writer import Store
from everything.io.storage.locations import Url
from everything.io.storage.ownership import MARKER, header
from everything.jobs.import_labels import import_labels
from everything.jobs.status import status
from everything.report.build import write_report
from tests.export.handed import SIZE, masks, write_handed
from tests.fakes import RECIPE
from tests.labelled import records

PHOTO = io.BytesIO()
Image.new("RGB", SIZE[::-1], (90, 120, 60)).save(PHOTO, "JPEG")


def sa1b(number: int = 1) -> dict[str, Any]:
    about = {"image_id": number, "width": SIZE[1], "height": SIZE[0]}
    return {"image": about | {"file_name": f"sa_{number}.jpg"}, "annotations": records(masks())}


def write_tar(path: Path, members: dict[str, bytes], prefix: str = "./") -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members(count: int) -> dict[str, bytes]:
    found = {}
    for number in range(1, count + 1):
        found[f"sa_{number}.jpg"] = PHOTO.getvalue()
        found[f"sa_{number}.json"] = json.dumps(sa1b(number)).encode()
    return found


def test_sa1b_tars_come_in_and_all_commands_work_on_them(tmp_path: Path):
    tars = tmp_path / "tars"
    tars.mkdir()
    write_tar(tars / "sa_000000.tar", members(3))
    seen: list[tuple[int, int]] = []
    out, photos = tmp_path / "labels", tmp_path / "photos"
    done = import_labels([tars], out, photos, lambda read, total: seen.append((read, total)))
    assert (done.photos, done.masks, done.unpacked, done.failed) == (3, 21, 3, 0)
    assert seen[-1] == ((tars / "sa_000000.tar").stat().st_size,) * 2
    assert seen == sorted(seen)
    results = Results(out)
    assert list(results.files) == ["sa_1.jpg", "sa_2.jpg", "sa_3.jpg"]
    for key, number in zip(results.files, (1, 2, 3), strict=True):
        assert results.read(key).annotations == sa1b(number)["annotations"]
        assert results.image(key, key) == Source(str(photos), key)
    assert write_report(out).is_file()
    assert export(out, "coco", tmp_path / "coco").masks == 21
    assert evaluate(out, out, boundaries=False).ar["100"] == 1.0
    again = import_labels([tars], out, photos)
    assert (again.photos, again.skipped, again.unpacked) == (0, 3, 0)


def test_a_bucket_can_be_the_results_folder(tmp_path: Path):
    write_tar(tmp_path / "x.tar", members(2))
    out = Url(f"memory://{uuid4().hex}/labels")
    assert import_labels([tmp_path / "x.tar"], out, tmp_path / "photos").masks == 14
    found = status(out)
    assert (found.state, found.images, found.done, found.masks) == ("ended", 2, 2, 14)
    assert [len(result.annotations) for result in Results(out)] == [7, 7]


def test_photos_stay_in_the_tar_if_no_place_is_given(tmp_path: Path):
    write_tar(tmp_path / "x.tar", members(1))
    assert import_labels([tmp_path / "x.tar"], tmp_path / "labels").unpacked == 0
    assert Results(tmp_path / "labels").image("sa_1.jpg", "sa_1.jpg") is None
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize("polygons", [False, True])
def test_what_was_exported_as_coco_comes_back(tmp_path: Path, polygons: bool):
    before = write_handed(tmp_path)
    export(before.root, "coco", tmp_path / "coco", polygons=polygons, photos="link")
    file = tmp_path / "coco" / "annotations" / "instances_default.json"
    done = import_labels([file], tmp_path / "back")
    assert (done.photos, done.masks, done.failed) == (4, 10, 0)
    after = Results(tmp_path / "back")
    for key in before.files:
        was = [a for a in before.read(key).annotations if a["area"]]
        now = after.read(key).annotations
        assert after.image(key, key) is not None
        for name in ("area", "bbox", "predicted_iou", "stability_score"):
            assert [a[name] for a in now] == [a[name] for a in was]
        size = before.read(key).size
        codes = [[a["segmentation"] for a in found] for found in (was, now)]
        assert (rle.decode(codes[0], size) == rle.decode(codes[1], size)).all()


def test_coco_spellings_crowds_and_classes(tmp_path: Path):
    square = np.zeros((8, 10), bool)
    square[2:5, 3:7] = True
    code = coco_mask.encode(np.asfortranarray(square.astype(np.uint8)))
    spellings = [
        [[3, 2, 7, 2, 7, 5, 3, 5]],
        {"size": [8, 10], "counts": [26, 3, 5, 3, 5, 3, 5, 3, 27]},
        {"size": [8, 10], "counts": code["counts"].decode()},
    ]
    tree = {
        "images": [{"id": 5, "file_name": "x.jpg", "width": 10, "height": 8}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"id": row, "image_id": 5, "category_id": 3, "segmentation": s, "iscrowd": row % 2}
            for row, s in enumerate(spellings)
        ],
    }
    (tmp_path / "c.json").write_text(json.dumps(tree))
    import_labels([tmp_path / "c.json"], tmp_path / "out")
    found = Results(tmp_path / "out").read("x.jpg").annotations
    assert (rle.decode([a["segmentation"] for a in found], (8, 10)) == square).all()
    assert [a.get("iscrowd") for a in found] == [None, 1, None]
    assert {a["category"] for a in found} == {"cat"}
    assert [a["predicted_iou"] for a in found] == [1.0] * 3


def test_the_parts_of_a_coco_file_come_in_any_order(tmp_path: Path):
    annotations = [
        {"id": n, "image_id": key, "category_id": 7, "segmentation": [[n, 0, n + 3, 0, n, 4]]}
        for n, key in enumerate([2.0, "2", 1, 2, "2"])
    ]
    images = [
        {"id": key, "file_name": f"{n}.jpg", "width": 10, "height": 8}
        for n, key in enumerate([2, "2", 1, 4])
    ]
    classes = [{"id": 7, "name": "seven"}]
    parts = {"annotations": annotations, "categories": classes, "images": images}
    for order in (sorted(parts), sorted(parts, reverse=True)):
        out = tmp_path / order[0]
        (tmp_path / "c.json").write_text(json.dumps({part: parts[part] for part in order}))
        steps: list[tuple[int, int]] = []
        import_labels([tmp_path / "c.json"], out, progress=lambda *now: steps.append(now))  # noqa: B023
        found = [Results(out).read(f"{n}.jpg").annotations for n in range(4)]
        assert [[a["id"] for a in masks] for masks in found] == [[0, 3], [1, 4], [2], []]
        assert {a["category"] for masks in found for a in masks} == {"seven"}
        assert steps == sorted(steps)
        assert steps[-1] == ((tmp_path / "c.json").stat().st_size,) * 2


@pytest.mark.parametrize(
    "text",
    [
        '{"images": []}',
        '{"images": [null], "annotations": []}',
        '{"images": [{"id": 1, "file_name": "x", "width": 4}], "annotations": []}',
        '{"images": [{"id": 1, "file_name": "x", "width": 4, "height": 4}], "annotations": [{"ima',
        '{"images": [{"id": 1, "file_name": "x", "width": 4, "height": 1e99}]}',
    ],
)
def test_a_coco_file_that_is_none_brings_nothing(tmp_path: Path, text: str):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json: not a COCO file .*give a COCO file"):
        import_labels([tmp_path / "c.json"], tmp_path / "out")
    assert len(Results(tmp_path / "out")) == 0


def test_memory_does_not_grow_with_a_coco_file(tmp_path: Path):
    def peak(photos: int) -> int:
        polygon = [[x % 7 + 0.5, x % 5 + 0.25] for x in range(60)]
        mask = {"category_id": 1, "segmentation": [[v for xy in polygon for v in xy]]}
        tree = {
            "images": [
                {"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in range(photos)
            ],
            "annotations": [mask | {"id": n, "image_id": n % photos} for n in range(8 * photos)],
        }
        (tmp_path / "c.json").write_text(json.dumps(tree))
        del tree
        tracemalloc.start()
        found = sum(len(image.annotations) for image in CocoReader(tmp_path / "c.json"))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == 8 * photos
        return most

    peak(2)
    assert peak(800) < peak(40) + 300_000  # of 6 MB more in the file


@pytest.mark.parametrize("name", ["../x.json", "/tmp/x.json", "a/../../x.json", "../../y.jpg"])
def test_members_cannot_leave_the_folder(tmp_path: Path, name: str):
    home = tmp_path / "deep" / "er"
    home.mkdir(parents=True)
    content = json.dumps(sa1b()).encode() if name.endswith("json") else PHOTO.getvalue()
    write_tar(home / "x.tar", {name: content} | members(1), prefix="")
    before = {path for path in tmp_path.rglob("*") if home / "in" not in path.parents}
    done = import_labels([home / "x.tar"], home / "in" / "labels", home / "in" / "photos")
    assert (done.photos, done.failed) == (1, 1)
    assert "leads out" in done.failures[0]
    assert {p for p in tmp_path.rglob("*") if home / "in" not in p.parents} - before == {
        home / "in"
    }
    assert not Path("/tmp/x.json").exists()


def test_names_inside_the_files_cannot_either(tmp_path: Path):
    tree = sa1b()
    tree["image"]["file_name"] = "../../evil.jpg"
    write_tar(tmp_path / "x.tar", {"sa_1.json": json.dumps(tree).encode()})
    done = import_labels([tmp_path / "x.tar"], tmp_path / "a" / "b" / "labels")
    assert (done.photos, done.failed) == (1, 0)
    assert list(tmp_path.rglob("*evil*")) == [tmp_path / "a/b/labels/annotations/evil.jpg.json"]


def test_links_in_a_tar_are_not_followed(tmp_path: Path):
    (tmp_path / "secret.json").write_text(json.dumps(sa1b()))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind, target in ((tarfile.SYMTYPE, "photos"), (tarfile.LNKTYPE, "hard")):
            info = tarfile.TarInfo(f"{target}.json")
            info.type, info.linkname = kind, os.fspath(tmp_path / "secret.json")
            tar.addfile(info)
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels", tmp_path / "photos")
    assert (done.photos, done.unpacked) == (0, 0)
    assert not list((tmp_path / "photos").rglob("*.json"))


BROKEN: dict[str, Any] = {
    "no json": b"{",
    "a list": b"[]",
    "no size": b'{"image": {"file_name": "x"}, "annotations": []}',
}
MASKS: dict[str, Any] = {
    "not a code": {"size": list(SIZE), "counts": "~~"},
    "of another size": records([np.ones((4, 4), bool)])[0]["segmentation"],
    "too long": {"size": list(SIZE), "counts": [10**6, 5]},
    "nothing": [],
    "two corners": [[0, 0, 1, 1]],
    "far away": [[0, 0, 1e12, 0, 1e12, 1e12]],
    "not a number": [[0, 0, float("nan"), 0, 4, 4]],
    "text": [["a", "b", "c", "d", "e", "f"]],
    "a number": 3,
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_broken_file_stops_nothing(tmp_path: Path, case: str):
    write_tar(tmp_path / "x.tar", {"sa_9.json": BROKEN[case]} | members(2))
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels")
    assert (done.photos, done.failed, len(done.failures)) == (2, 1, 1)
    assert list(Results(tmp_path / "labels").files) == ["sa_1.jpg", "sa_2.jpg"]


@pytest.mark.parametrize("case", MASKS)
def test_one_bad_mask_costs_nothing_else(tmp_path: Path, case: str):
    tree = sa1b(9)
    tree["annotations"][1]["segmentation"] = MASKS[case]
    write_tar(tmp_path / "x.tar", {"sa_9.json": json.dumps(tree).encode()} | members(2))
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels")
    assert (done.photos, done.failed, done.tally.left_out.total()) == (3, 0, 1)
    expected = [row for row in sa1b(9)["annotations"] if row["id"] != 1]
    assert Results(tmp_path / "labels").read("sa_9.jpg").annotations == expected


def test_a_tar_that_was_cut_gives_what_it_has(tmp_path: Path):
    path = write_tar(tmp_path / "x.tar", members(4))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = import_labels([path], tmp_path / "labels")
    assert 0 < done.photos < 4
    assert (done.failed, "get another copy" in done.failures[0]) == (1, True)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_are_whole_or_not(tmp_path: Path, mode: Literal["w:gz"]):
    path = tmp_path / f"x.tar.{mode[2:]}"
    with tarfile.open(path, mode) as tar:
        for name, content in members(4).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    done = import_labels([tmp_path], tmp_path / "labels")
    assert (done.photos, done.failed) == (4, 0)
    path.write_bytes(path.read_bytes()[:-40])
    done = import_labels([path], tmp_path / "cut")
    assert (done.failed, "get another copy" in done.failures[-1]) == (1, True)


def test_only_images_are_unpacked(tmp_path: Path):
    names = [".ssh/authorized_keys", ".hidden.jpg", "a/.git/hooks/x.jpg", "run.sh", "fake.jpg"]
    wrong = {name: PHOTO.getvalue() for name in names[:3]} | dict.fromkeys(names[3:], b"#!/bin/sh")
    write_tar(tmp_path / "x.tar", wrong | members(1))
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels", tmp_path / "photos")
    assert (done.photos, done.unpacked, done.not_unpacked, done.failed) == (1, 1, 5, 0)
    found = {p.name for p in (tmp_path / "photos").rglob("*")}
    assert found == {"sa_1.jpg", MARKER}
    assert all(any(name in line for line in done.failures) for name in names)


def test_images_that_were_unpacked_are_inputs(tmp_path: Path):
    write_tar(tmp_path / "x.tar", members(2))
    import_labels([tmp_path / "x.tar"], tmp_path / "labels", tmp_path / "photos")
    names = [source.name for source in list_images([tmp_path / "photos"])]
    assert names == ["sa_1.jpg", "sa_2.jpg"]
    with Store(tmp_path / "photos", RECIPE).opened():
        pass  # results may lie beside them, and more may be unpacked later
    write_tar(tmp_path / "x.tar", members(3))
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels", tmp_path / "photos")
    assert (done.photos, done.unpacked, done.failed) == (1, 1, 0)


def test_nothing_is_unpacked_into_a_folder_of_others(tmp_path: Path):
    write_tar(tmp_path / "x.tar", members(2))
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "sa_1.jpg").write_bytes(PHOTO.getvalue())
    with pytest.raises(StoreError, match=r"photos: not empty and not of this .* another --photos"):
        import_labels([tmp_path / "x.tar"], tmp_path / "labels", photos)
    assert [path.name for path in photos.iterdir()] == ["sa_1.jpg"]
    # Its own images are used if they are there.
    (photos / "sa_2.jpg").write_bytes(PHOTO.getvalue())
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels", photos)
    assert (done.photos + done.skipped, done.unpacked, done.failed) == (2, 0, 0)
    assert len(list(photos.iterdir())) == 2


@pytest.mark.parametrize("theirs", [PHOTO.getvalue()[:-1], PHOTO.getvalue() + b"x", b""])
def test_another_image_of_the_name_is_not_that_of_the_tar(tmp_path: Path, theirs: bytes):
    write_tar(tmp_path / "x.tar", members(2))
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / MARKER).write_bytes(header("images"))
    (photos / "sa_1.jpg").write_bytes(theirs)
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels", photos)
    assert (done.photos, done.unpacked, done.failed) == (2, 1, 1)
    assert "sa_1.jpg: another file of this name" in done.failures[0]
    assert (photos / "sa_1.jpg").read_bytes() == theirs
    results = Results(tmp_path / "labels")
    with pytest.raises(ImageError, match="not found"):
        original_image(results, "sa_1.jpg", results.read("sa_1.jpg"))


def test_sizes_as_text_are_read(tmp_path: Path):
    tree = sa1b(1)
    tree["image"] |= {"width": str(SIZE[1]), "height": str(SIZE[0])}
    write_tar(tmp_path / "x.tar", {"sa_1.json": json.dumps(tree).encode()})
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels")
    assert (done.photos, done.masks, done.failed) == (1, 7, 0)


def test_two_files_of_one_image_are_not_skipped_in_silence(tmp_path: Path):
    write_tar(tmp_path / "x.tar", members(1) | {"copy.json": json.dumps(sa1b(1)).encode()})
    done = import_labels([tmp_path / "x.tar"], tmp_path / "labels")
    assert (done.photos, done.skipped, done.failed) == (1, 0, 1)


def test_wrong_sources(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="not a COCO file"):
        import_labels([tmp_path / "x.json"], tmp_path / "out")
    with pytest.raises(InputError, match="nothing to import: give SA-1B tars"):
        import_labels([tmp_path], tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        import_labels([tmp_path / "none.tar"], tmp_path / "out")
    write_handed(tmp_path)
    write_tar(tmp_path / "x.tar", members(1))
    with pytest.raises(InputError, match="cannot share a results folder"):
        import_labels([tmp_path / "x.tar", tmp_path / "x.json"], tmp_path / "out")
    with pytest.raises(StoreError, match=r"another recipe .* give another --out$"):
        import_labels([tmp_path / "x.tar"], tmp_path / "labels")


def test_the_command(tmp_path: Path):
    path = write_tar(tmp_path / "x.tar", {"bad.json": b"{"} | members(1))
    command = ["import", str(path), "--out", str(tmp_path / "labels")]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["masks"] == 7
    printable = CliRunner().invoke(app, command)
    assert "bad.json: not SA-1B's JSON" in " ".join(printable.output.split())
