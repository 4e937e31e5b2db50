from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco

from everything.config import Output, Recipe
from everything.core.file_names import image_id
from everything.errors import ImageError, StoreError
from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.result_document import read_document
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.io.storage.storage import Stamp
from tests.fakes import as_nobody

RECIPE = Recipe(
    variant="ucm", sampler={"name": "grid", "points_per_side": 32}, version="1", weights=""
)
OTHER = RECIPE.model_copy(update={"sampler": {"name": "grid", "points_per_side": 16}})
HIDDEN = (".everything.jsonl", ".lock")
TIMING = {"read": 0.5, "total": 0.5, "masks": 1}
CIRCLE = np.hypot(*np.mgrid[-5:5, -5:5]) < 4


def annotation() -> dict[str, object]:
    rle = coco.encode(np.asfortranarray(CIRCLE.astype(np.uint8)))
    return {
        "id": 0,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
        "bbox": [1.0, 1.0, 7.0, 7.0],
        "area": int(CIRCLE.sum()),
        "predicted_iou": 0.9,
        "stability_score": 0.95,
        "crop_box": [0.0, 0.0, 10.0, 10.0],
        "point_coords": [[5.0, 5.0]],
    }


def put(store: Store, name: str = "a.jpg", timing: Mapping[str, float] = TIMING) -> Stamp:
    return store.put(name, (10, 12), [annotation()], lambda: timing)


def files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def row(name: str = "a.jpg", status: str = "done", **more: object) -> Row:
    base = {"image_id": image_id(name), "digest": RECIPE.digest, "host": "here", "attempt": 1}
    return Row(name, status, **(base | {"started": 1.0, "finished": 2.5} | more))


def test_results_are_sa_1b_with_timing_and_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path, RECIPE)
    with store.opened():
        put(store, "x/a.jpg")
    document = json.loads((tmp_path / "annotations/x/a.jpg.json").read_text("ascii"))
    assert list(document) == ["image", "annotations", "recipe", "timing"]
    about = {"image_id": image_id("x/a.jpg"), "width": 12, "height": 10, "file_name": "x/a.jpg"}
    assert document["image"] == about
    (record,) = document["annotations"]
    assert (coco.decode(record["segmentation"]).astype(bool) == CIRCLE).all()
    assert coco.area(record["segmentation"]) == record["area"]
    assert document["recipe"]["digest"] == RECIPE.digest
    assert document["recipe"]["sampler"] == {"name": "grid", "points_per_side": 32}
    assert document["timing"] == TIMING
    assert files(tmp_path) == [
        ".everything.jsonl",
        ".lock",
        "annotations/x/a.jpg.json",
        "recipe.yaml",
    ]


def test_bytes_differ_in_timing_only(tmp_path: Path) -> None:
    contents = []
    for number in range(2):
        store = Store(tmp_path / str(number), RECIPE)
        with store.opened():
            put(store, timing={"total": number})
        contents.append((store.folder.read("annotations/a.jpg.json") or b"").split(b',"timing":'))
    assert contents[0][0] == contents[1][0]
    assert contents[0][1] != contents[1][1]


def test_names_that_are_not_utf_8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"two\nlines \xff.jpg")
    store = Store(tmp_path, RECIPE)
    with store.opened():
        put(store, name)
    (path,) = (tmp_path / "annotations").iterdir()
    assert os.fsencode(json.loads(path.read_bytes())["image"]["file_name"]) == os.fsencode(name)
    assert store.get(name)
    ledger = Manifest(store.folder)
    ledger.append(row(name))
    ledger.compact()
    assert pq.read_table(tmp_path / "manifest")["name"].to_pylist() == ["two\nlines \\xff.jpg"]
    assert ledger.known(RECIPE.digest).get("two\nlines \\xff.jpg")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"image":{}}', b"\xff", b"[" * 100_000, b'{"image":[]}'],
)
def test_incomplete_results_are_not_results(content: bytes) -> None:
    assert read_document(content) is None


def test_every_cut_of_a_result_is_incomplete(tmp_path: Path) -> None:
    store = Store(tmp_path, RECIPE)
    with store.opened():
        put(store)
    content = store.folder.read("annotations/a.jpg.json") or b""
    assert read_document(content)
    assert not any(read_document(content[:end]) for end in range(len(content) - 1))


def test_done_means_of_this_recipe_and_untouched(tmp_path: Path) -> None:
    store = Store(tmp_path, RECIPE)
    with store.opened():
        stamp = put(store)
    assert store.get("a.jpg")
    assert store.is_untouched("a.jpg", stamp)
    assert Store(tmp_path, OTHER).get("a.jpg") is None
    assert store.get("b.jpg") is None
    path = tmp_path / "annotations/a.jpg.json"
    path.write_bytes(path.read_bytes()[:-3])
    assert store.get("a.jpg") is None
    assert not store.is_untouched("a.jpg", stamp)


def test_another_recipe_is_refused_and_says_why(tmp_path: Path) -> None:
    with Store(tmp_path, RECIPE).opened():
        pass
    expected = r"another recipe \(sampler.points_per_side is 32 there and 16 now\).*--overwrite"
    with pytest.raises(StoreError, match=expected), Store(tmp_path, OTHER).opened():
        pass
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["variant"] == "ucm"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"- 1", b"# digest: 12\n"])
def test_a_recipe_that_cannot_be_read_is_another_one(tmp_path: Path, content: bytes) -> None:
    with Store(tmp_path, RECIPE).opened():
        pass
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(StoreError, match="another recipe"), Store(tmp_path, RECIPE).opened():
        pass


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with Store(tmp_path, RECIPE).opened():
        put(Store(tmp_path, RECIPE))
        Manifest(Folder(tmp_path)).append(row())
    with Store(tmp_path, OTHER).opened(overwrite=True):
        assert files(tmp_path) == [*HIDDEN, "mine.txt", "recipe.yaml"]
    with Store(tmp_path, OTHER).opened():
        pass


def test_a_second_job_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    second = Store(tmp_path, RECIPE).folder.locked()
    with (
        Store(tmp_path, RECIPE).opened(),
        pytest.raises(StoreError, match=rf"another job.*process {os.getpid()}"),
    ):
        second.__enter__()
    with Store(tmp_path, RECIPE).opened():
        pass


def write_for_ever(root: Path) -> None:
    store = Store(root, RECIPE)
    with store.opened():
        while True:
            put(store)


def test_a_killed_job_leaves_the_lock_and_no_half_file(tmp_path: Path) -> None:
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(
            target=write_for_ever, args=[tmp_path]
        )
        process.start()
        deadline = time.monotonic() + 10
        while not (tmp_path / "annotations/a.jpg.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert read_document((tmp_path / "annotations/a.jpg.json").read_bytes())
        (tmp_path / ".partial/here-1-2").write_bytes(b"half")
        with Store(tmp_path, RECIPE).opened():
            assert list((tmp_path / ".partial").iterdir()) == []
            assert files(tmp_path) == [
                ".everything.jsonl",
                ".lock",
                "annotations/a.jpg.json",
                "recipe.yaml",
            ]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "x/../../a.jpg", "", "a\0b"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="outside of"):
        Folder(tmp_path / "out").write(name, [b""])
    assert files(tmp_path) == []


def test_a_name_that_is_too_long_costs_only_its_photo(tmp_path: Path) -> None:
    store = Store(tmp_path, RECIPE)
    with store.opened():
        with pytest.raises(ImageError, match="file name too long"):
            put(store, "a" * 252 + ".jpg")
        put(store, "b.jpg")
        with pytest.raises(ImageError, match="no file of this name can be written"):
            put(store, "b.jpg.json/c.jpg")  # a folder where a result is
        assert list((tmp_path / ".partial").iterdir()) == []


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="not a directory"):
        Folder(tmp_path / "file/out").create()
    with as_nobody() as folder:
        folder.chmod(0o500)
        with pytest.raises(StoreError, match="permission denied"):
            Folder(folder / "out").create()
        folder.chmod(0o700)


def test_a_folder_that_goes_away_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "out", RECIPE)
    store.folder.create()
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="the folder is gone"):
        put(store)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_everybody_s_error(tmp_path: Path) -> None:
    def content() -> object:
        yield b"half"
        raise OSError(28, "No space left on device")

    folder = Folder(tmp_path)
    folder.create()
    with pytest.raises(StoreError, match=r"no space left on device.*to resume"):
        folder.write("a", content())
    assert files(tmp_path) == []


def test_label_maps_are_part_of_the_result(tmp_path: Path) -> None:
    store = Store(tmp_path, RECIPE.model_copy(update={"output": Output(label_map=True)}))
    labels = np.arange(120, dtype=np.uint16).reshape(10, 12) * 500
    with store.opened():
        stamp = put(store)
        assert store.get("a.jpg") is None
        assert not store.is_untouched("a.jpg", stamp)
        store.put_label_map("a.jpg", labels)
    assert store.get("a.jpg")
    assert store.is_untouched("a.jpg", stamp)
    with Image.open(tmp_path / "label_maps/a.jpg.png") as image:
        assert (np.array(image) == labels).all()


def ledger_in(root: Path) -> Manifest:
    folder = Folder(root)
    folder.create()
    return Manifest(folder)


def test_the_last_row_of_a_photo_counts(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.append(row("b.jpg", "failed", error="broken"))
    ledger.append(row("a.jpg", "failed", error="no"))
    ledger.append(row("a.jpg", attempt=2, seconds={"read": 0.25}, counts={"masks": 3}))
    for _ in range(2):
        table = ledger.table().to_pylist()
        assert [(r["name"], r["status"], r["attempt"]) for r in table] == [
            ("a.jpg", "done", 2),
            ("b.jpg", "failed", 1),
        ]
        assert (table[0]["read_seconds"], table[0]["masks"]) == (0.25, 3)
        assert table[0]["finished"].timestamp() == 2.5
        ledger.compact()
    assert pq.read_table(tmp_path / "manifest").to_pylist() == table
    lines = (tmp_path / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": "b.jpg", "error": "broken", "attempt": 1}
    ]
    assert files(tmp_path) == ["errors.jsonl", "manifest/part-00000.parquet"]


def test_what_earlier_runs_left_is_known(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.append(row("a.jpg", source_bytes=7, bytes=11, mtime_ns=13))
    ledger.compact()
    ledger.append(row("b.jpg", "failed", error="broken", attempt=2))
    known = ledger.known(RECIPE.digest)
    assert known.get("a.jpg") == (True, 1, 7, Stamp(11, 13), None, None, None)
    assert known.get("b.jpg") == (False, 2, None, None, None, None, None)
    assert known.get("c.jpg") is None
    assert ledger.known(OTHER.digest).get("a.jpg") == (False, 1, 7, Stamp(11, 13), None, None, None)


@pytest.mark.parametrize(
    "tail",
    [b'{"name": "b.jpg", "sta', b"\xff\xff", b"[]\n", b"{}\n", b'{"name": 1}\n', b"\n\n", b"null"],
)
def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path, tail: bytes) -> None:
    ledger = ledger_in(tmp_path)
    ledger.append(row())
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(tail)
    assert ledger.table()["name"].to_pylist() == ["a.jpg"]


def test_rows_with_other_types_are_passed_over(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    for name in "abc":
        ledger.append(row(f"{name}.jpg", width="wide" if name == "b" else 5))
    assert ledger.table()["name"].to_pylist() == ["a.jpg", "c.jpg"]


def test_a_broken_manifest_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_in(tmp_path)
    ledger.append(row())
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest/part-00000.parquet").write_bytes(b"PAR1 not at all")
    assert ledger.table().num_rows == 1
    assert "part-00000.parquet: damaged, 0 rows could be read" in caplog.text
    ledger.compact()
    assert ledger.table().num_rows == 1
    aside = tmp_path / "set-aside/manifest/part-00000.parquet"
    assert aside.read_bytes() == b"PAR1 not at all"
    assert "set aside as set-aside/manifest/part-00000.parquet" in caplog.text


def test_rows_of_a_damaged_manifest_that_can_be_read_are_kept(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.append(*(row(f"{n}.jpg", width=7, notes=["x"]) for n in range(9)))
    ledger.compact()
    part = tmp_path / "manifest/part-00000.parquet"
    columns = pq.ParquetFile(part).metadata.row_group(0)
    digest = next(c for n in range(columns.num_columns)
                  if (c := columns.column(n)).path_in_schema == "digest")  # fmt: skip
    content = bytearray(part.read_bytes())
    start = digest.dictionary_page_offset or digest.data_page_offset
    content[start : start + digest.total_compressed_size] = bytes(digest.total_compressed_size)
    part.write_bytes(content)
    (tmp_path / "errors.jsonl").unlink()  # as a kill leaves it
    again = Manifest(Folder(tmp_path))
    again.compact()
    table = again.table().to_pylist()
    assert [(r["name"], r["width"], r["digest"]) for r in table] == [
        (f"{n}.jpg", 7, None) for n in range(9)
    ]
    assert (tmp_path / "set-aside/manifest/part-00000.parquet").read_bytes() == content


def test_lines_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.append(row("a.jpg"))
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b"{nonsense}\n")
    ledger.append(row("b.jpg"))
    lines = (tmp_path / "ledger.jsonl").read_bytes()
    Manifest(Folder(tmp_path)).compact()
    assert Manifest(Folder(tmp_path)).table()["name"].to_pylist() == ["a.jpg", "b.jpg"]
    assert (tmp_path / "set-aside/ledger.jsonl").read_bytes() == lines


def test_no_rows_at_all(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.compact()
    assert len(ledger.known(RECIPE.digest)) == 0
    assert pq.read_table(tmp_path / "manifest").num_rows == 0
