"""What holds for every format: all or nothing, bounded, counted."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from everything.cli.main import app
from everything.config import Level
from everything.errors import ConfigError, InputError, StoreError
from everything.export import ALIASES, EXPORTERS, format_named
from everything.export.originals import Original
from everything.export.run import export
from everything.export.voc_png import MOST
from everything.export.writer import ExportJob, LabelledImage
from everything.io.images.sources import Source
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Results
from tests.export.handed import write_handed
from tests.fakes import save_photo
from tests.labelled import disc, records, write_labels

FORMATS = sorted(EXPORTERS)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return write_handed(tmp_path_factory.mktemp("handed"))


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_is_all_there_or_not_at_all(labels: Results, tmp_path: Path, to: str):
    seen = []
    out = tmp_path / "out"
    export(labels.root, to, out, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4) for done in (1, 2, 3, 4)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((out / "export.json").read_bytes())["format"] == to
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(StoreError, match=r"out: holds an earlier export: .*--overwrite"):
        export(labels.root, to, out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    export(labels.root, to, out, overwrite=True)
    assert set(out.rglob("*")) == set(before)


@pytest.mark.parametrize("to", FORMATS)
def test_what_stops_on_the_way_leaves_what_was_there(labels: Results, tmp_path: Path, to: str):
    out = tmp_path / "out"
    export(labels.root, to, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(labels.root, to, out, overwrite=True, progress=stop)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert {path: after[path] for path in before if path.is_file()} == {
        path: when for path, when in before.items() if path.is_file()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("to", FORMATS)
def test_what_was_edited_by_hand_is_left_out_and_the_rest_exported(
    tmp_path: Path, to: str, caplog: pytest.LogCaptureFixture
):
    names = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
    discs = [disc((20, 30), (9, 9), 5), disc((20, 30), (20, 9), 5)]
    out = write_labels(tmp_path / "l", tmp_path / "p", dict.fromkeys(names, discs))

    def edit(name: str, old: str, new: str) -> None:
        file = out / "annotations" / f"{name}.json"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    edit("b.png", '"annotations"', '"annotation"')
    edit("c.png", '"counts":"', '"counts":"o')
    edit("d.png", '"file_name":"d.png"', '"file_name":"../../d.png"')
    edit("e.png", '"area"', '"iscrowd":NaN,"area"')
    edit("f.png", '"area":', '"area":0,"x":')
    fidelity = export(out, to, tmp_path / "out")
    assert (fidelity.images, fidelity.masks, fidelity.unreadable) == (2, 4, 4)
    told = json.loads((tmp_path / "out/export.json").read_bytes())
    assert told["annotations_unreadable"] == 4
    assert [line[:5] for line in told["photo_reasons"]] == [*(f"{x}.png" for x in "bcde")]
    for name in "bce":
        assert f"{name}.png.json: not an annotation file (" in caplog.text
    assert "d.png.json: the image's name leads out of the folder: rename it" in caplog.text


@pytest.mark.parametrize("to", FORMATS)
def test_photos_without_masks_and_no_photos(tmp_path: Path, to: str):
    write_labels(tmp_path / "l", tmp_path / "p", {"x.png": [np.zeros((5, 7), bool)]})
    fidelity = export(tmp_path / "l", to, tmp_path / "out")
    assert (fidelity.images, fidelity.masks, fidelity.left_out) == (1, 0, 1)
    (tmp_path / "none").mkdir()
    assert export(tmp_path / "none", to, tmp_path / "nothing").images == 0


def test_nothing_else_is_ever_replaced(labels: Results, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="not empty and not an export"):
            export(labels.root, "coco", tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_wrong_settings(labels: Results, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"xml: unknown format: choose one of coco,"):
        export(labels.root, "xml", tmp_path / "out")
    with pytest.raises(ConfigError, match="coco only, not to cvat: drop it"):
        export(labels.root, "cvat", tmp_path / "out", polygons=True)
    with pytest.raises(ConfigError, match="level 'wholes': choose one of all, whole"):
        export(labels.root, "coco", tmp_path / "out", level="wholes")
    with pytest.raises(ConfigError, match="give 0 or more"):
        export(labels.root, "yolo-seg", tmp_path / "out", tolerance=-1)
    with pytest.raises(InputError, match="no such folder"):
        export(tmp_path / "none", "coco", tmp_path / "out")


@pytest.mark.parametrize("to", ["yolo-seg", "geojson", "coco"])
def test_fewer_corners_cost_and_say_what(labels: Results, tmp_path: Path, to: str):
    exact = export(labels.root, to, tmp_path / "exact", polygons=to == "coco")
    thin = export(labels.root, to, tmp_path / "thin", polygons=to == "coco", tolerance=1.5)
    assert 0.8 < thin.total / thin.masks < exact.total / exact.masks
    assert thin.least < exact.least
    assert "four" in thin.least_of or "b c" in thin.least_of

    def size(folder: str) -> int:
        return sum(path.stat().st_size for path in (tmp_path / folder).rglob("*.*"))

    assert size("thin") < size("exact")


@pytest.mark.parametrize(("level", "count"), [("whole", 4), ("part", 6), ("subpart", 0)])
def test_only_a_level(labels: Results, tmp_path: Path, level: Level, count: int):
    fidelity = export(labels.root, "coco", tmp_path / "out", level=level)
    assert (fidelity.masks, fidelity.left_out) == (count, 11 - count)


def test_photos_that_are_gone_are_counted(tmp_path: Path):
    write_labels(tmp_path / "l", tmp_path / "p", {"x.png": [disc((9, 9), (4, 4), 3)]})
    (tmp_path / "p" / "x.png").unlink()
    assert export(tmp_path / "l", "yolo-seg", tmp_path / "out").images_not_found == 1


@pytest.mark.parametrize("to", FORMATS)
def test_a_name_that_leads_out_is_left_out(tmp_path: Path, to: str):
    about = {"image_id": 1, "width": 9, "height": 9, "file_name": "../../x.png"}
    content = {"image": about, "annotations": records([disc((9, 9), (4, 4), 3)])}
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "x.json").write_text(json.dumps(content))
    done = []
    export(tmp_path / "l", to, tmp_path / "out", progress=lambda *now: done.append(now))
    reasons = json.loads((tmp_path / "out/export.json").read_bytes())["photo_reasons"]
    assert "leads out of the folder" in reasons[0]
    assert done == [(1, 1)]
    assert not (tmp_path / "x.png").exists()


def test_names_that_break_other_formats(tmp_path: Path):
    names = ["<a>&\"'.png", "line\nbreak.png", "\udcff.png", "a b.PNG", "a b.png"]
    write_labels(tmp_path / "l", tmp_path / "p", {n: [disc((12, 12), (4, 4), 3)] for n in names})
    for to in FORMATS:
        fidelity = export(tmp_path / "l", to, tmp_path / to, photos="link")
        assert (fidelity.masks, fidelity.images_not_found) == (5, 0)
    texts = [p for p in (tmp_path / "yolo-seg" / "labels").rglob("*") if p.is_file()]
    photos = [p for p in (tmp_path / "yolo-seg" / "images").rglob("*") if p.is_file()]
    assert {p.stem for p in texts} == {p.stem for p in photos}
    assert len(texts) == 5


def test_vocs_palette_holds_the_best_254(tmp_path: Path):
    masks = np.zeros((300, 20, 30), bool)
    for row in range(300):
        masks[row].flat[row : row + 2] = True
    scores = [row / 300 for row in range(300)]
    write_labels(tmp_path / "l", tmp_path / "p", {"x.png": list(masks)}, scores=scores)
    fidelity = export(tmp_path / "l", "voc-png", tmp_path / "out")
    assert (fidelity.masks, fidelity.left_out) == (MOST, 300 - MOST)
    found = np.array(Image.open(tmp_path / "out" / "SegmentationObject" / "x.png"))
    assert (found.flat[300 - MOST] == 1, found.flat[299 - MOST]) == (True, 0)


@pytest.mark.parametrize("to", FORMATS)
def test_memory_does_not_grow_with_the_photos(to: str, tmp_path: Path):
    masks = records([disc((60, 80), (40, 30), r) for r in (3, 5, 7, 9)] * 4, [0.5] * 16)

    def peak(count: int) -> int:
        job = ExportJob(tmp_path / f"{count}")
        job.out.mkdir()
        photos = (
            LabelledImage(n, f"{n}.png", f"{n}", (60, 80), masks, lambda: None)
            for n in range(1, count + 1)
        )
        tracemalloc.start()
        EXPORTERS[to].load()(photos, job)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)
    # 80 photos more have 1,280 masks, of which nothing may stay.
    assert peak(85) < peak(5) + 400_000


def test_the_command(labels: Results, tmp_path: Path):
    run = CliRunner()
    command = ["export", str(labels.root), "--to", "yolo-seg", "--out", str(tmp_path / "o")]
    result = run.invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["masks"] == 10
    again = run.invoke(app, command)
    assert (again.exit_code, "--overwrite" in again.output) == (1, True)
    table = run.invoke(app, [*command, "--overwrite"])
    assert "mean IoU with the masks" in table.stdout
    assert run.invoke(app, [*command[:3], "tfrecord", *command[4:]]).exit_code == 2


def test_what_others_put_into_an_export_outlives_it(
    labels: Results, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    out = tmp_path / "out"
    export(labels.root, "yolo-seg", out)
    theirs = {"runs/segment/train/best.pt": b"x", "labels/train.cache": b"y", "mine.txt": b"z"}
    for name, content in theirs.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    edited = out / "data.yaml"
    edited.write_text("names: [mine]\n")
    before = {path for path in out.rglob("*") if path.is_file()}
    export(labels.root, "coco", out, overwrite=True)
    for name, content in theirs.items():
        assert (out / name).read_bytes() == content
    assert edited.read_text() == "names: [mine]\n"
    assert "4 files that this command did not write were kept" in caplog.text
    export(labels.root, "yolo-seg", out, overwrite=True)
    assert (out / "set-aside/data.yaml").read_text() == "names: [mine]\n"
    assert "0: object" in edited.read_text()
    after = {path for path in out.rglob("*") if path.is_file()}
    assert after == before | {out / "set-aside/data.yaml"}


def test_nothing_beside_an_export_is_deleted(labels: Results, tmp_path: Path):
    for name in (".out.old", ".out.partial", ".out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_bytes(b"mine")
    for overwrite in (False, True):
        export(labels.root, "coco", tmp_path / "out", overwrite=overwrite)
    for name in (".out.old", ".out.partial", ".out"):
        assert (tmp_path / name / "mine").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_link_given_as_the_folder_stays_one(labels: Results, tmp_path: Path):
    (tmp_path / "disk2").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk2")
    for overwrite in (False, True):
        export(labels.root, "coco", tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk2/export.json").is_file()


def test_the_working_folder_can_be_exported_to(
    labels: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = Path(labels.root).absolute()
    monkeypatch.chdir(tmp_path)
    export(root, "coco", Path())
    assert Path("export.json").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [
        ".everything.jsonl"
    ]


def test_a_link_inside_an_export_is_not_followed(labels: Results, tmp_path: Path):
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    export(labels.root, "yolo-seg", out)
    shutil.copytree(out / "labels", theirs)
    before = {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}
    shutil.rmtree(out / "labels")
    (out / "labels").symlink_to(theirs)
    with pytest.raises(StoreError, match="link"):
        export(labels.root, "yolo-seg", out, overwrite=True)
    assert before == {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}


def test_the_export_of_a_version_without_a_list_is_left_alone(labels: Results, tmp_path: Path):
    export(labels.root, "coco", tmp_path / "out")
    (tmp_path / "out/.everything.jsonl").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(StoreError, match="kept no list of its files: give another --out"):
        export(labels.root, "coco", tmp_path / "out", overwrite=True)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    "name", ["COCO", "yolo", "YOLO_seg", "Voc", "label_studio", "amg", "geojson"]
)
def test_formats_in_any_case_and_by_other_names(name: str):
    assert format_named(name) in EXPORTERS


def test_aliases_lead_to_formats_and_hide_none():
    assert set(ALIASES.values()) <= set(EXPORTERS.builtin)
    assert not set(ALIASES) & set(EXPORTERS.builtin)


def test_thresholds_apply_to_exports_and_are_counted(tmp_path: Path):
    masks = {"x.png": [disc((40, 50), (20, 20), radius) for radius in (5, 9, 15)]}
    labels = write_labels(tmp_path / "l", tmp_path / "p", masks)
    keep = MaskFilter(min_mask_area=100, pred_iou_thresh=0.8)
    fidelity = export(labels, "coco", tmp_path / "out", keep=keep)
    assert (fidelity.masks, fidelity.left_out) == (1, 2)
    fidelity = export(labels, "coco", tmp_path / "whole", level="whole", keep=keep)
    assert (fidelity.masks, fidelity.left_out) == (1, 2)


@pytest.mark.parametrize("images", ["link", "copy"])
def test_an_image_does_not_replace_another_one_of_its_name(
    tmp_path: Path, images: Literal["link", "copy"]
) -> None:
    job = ExportJob(tmp_path / "out", images)  # where a.png and A.png are one name
    save_photo(tmp_path / "a.png", size=(40, 50))
    save_photo(tmp_path / "b.png", size=(50, 40))
    placed = [
        job.place_original(Original(Source(str(tmp_path), name)), "x.png")
        for name in ("a.png", "b.png")
    ]
    assert placed == [True, False]
    assert job.fidelity.images_not_found == 1
    assert (tmp_path / "out/x.png").read_bytes() == (tmp_path / "a.png").read_bytes()
