from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from everything.config import Output
from everything.errors import InputError, StoreError
from everything.io.images.listing import list_images
from everything.io.images.sources import list_inputs
from everything.io.results import manifest as manifests
from everything.io.results.manifest import Manifest
from everything.io.results.writer import Store, folder_at
from everything.io.storage import object_store
from everything.io.storage.locations import Location, Url, filesystem, located
from everything.io.storage.object_store import ObjectStore
from everything.io.storage.storage import Stamp
from everything.jobs.label import label
from everything.jobs.status import status
from everything.jobs.summary import Summary
from tests.fakes import RECIPE, build, build_watched, save_photo
from tests.io.results.test_writer import row
from tests.s3 import s3_server

pytestmark = pytest.mark.filterwarnings(
    # botocore 1.43 asks for the time like this.
    "ignore:datetime.datetime.utcnow:DeprecationWarning"
)


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    with s3_server():
        files, _ = filesystem(Url("s3://bucket"))
        files.mkdir("bucket")
        yield


@pytest.fixture(params=["memory", "s3"])
def root(request: pytest.FixtureRequest) -> Url:
    if request.param == "s3":
        request.getfixturevalue("s3")
    return Url(f"{request.param}://bucket/{uuid4().hex}")


def test_objects_are_written_read_listed_and_removed(root: Url) -> None:
    bucket = ObjectStore(root)
    assert bucket.read("a/b.json") is None
    assert bucket.stamp("a/b.json") is None
    assert bucket.list("a", ".json") == []
    assert bucket.write("a/b.json", [b"one", b"two"]) == Stamp(6, 0)
    bucket.write("a/c/d.json", [b"1"])
    bucket.write("a/e.txt", [b""])
    assert bucket.read("a/b.json") == b"onetwo"
    assert bucket.stamp("a/b.json") == Stamp(6, 0)
    assert bucket.list("a", ".json") == ["a/b.json", "a/c/d.json"]
    bucket.delete("a/b.json")
    bucket.delete("a/b.json")
    bucket.remove(["a/c/d.json", "a/e.txt", "nothing"])
    assert list(bucket.walk("a")) == []


def test_stock_is_what_was_there(root: Url) -> None:
    bucket = ObjectStore(root)
    bucket.write("a/b", [b"1"])
    bucket.cache_listing("a")
    bucket.write("a/c", [b"2"])
    assert (bucket.stamp("a/b"), bucket.stamp("a/c")) == (Stamp(1, 0), None)


def memory() -> ObjectStore:
    return ObjectStore(Url(f"memory://{uuid4().hex}"))


def test_what_is_there_is_told_and_can_be_set_aside() -> None:
    bucket = memory()
    assert not bucket.holds("a")
    bucket.write("a/b", [b"1\n2"])
    assert [bucket.holds(name) for name in ("a", "a/b", "a/c")] == [True, True, False]
    assert [list(bucket.lines(name)) for name in ("a/b", "a/c")] == [[b"1\n", b"2"], []]
    first = bucket.set_aside("a/b")
    assert not bucket.holds("a")
    bucket.write("a/b", [b"3"])
    second = bucket.set_aside("a/b")
    assert (bucket.read(first), bucket.read(second)) == (b"1\n2", b"3")
    assert not bucket.holds(bucket.set_aside("a/c"))
    with pytest.raises(StoreError, match="cannot be appended to"):
        bucket.append("a/b", b"4")


def test_a_lock_of_others_is_refused() -> None:
    bucket = memory()
    bucket.refuse_foreign_locks()
    bucket.write(".lock", [b'{"job": "x"}'])
    bucket.refuse_foreign_locks()
    bucket.write("a", [b"1"])
    assert list(bucket.names()) == ["a"], "the lease is none of the results"
    bucket.write(".lock", [b"theirs"])
    with pytest.raises(StoreError, match="did not write"):
        bucket.refuse_foreign_locks()


def test_objects_are_deleted_some_in_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_DELETED_AT_ONCE", 2)
    bucket, names = memory(), [f"{n}" for n in range(7)]
    for name in names:
        bucket.write(name, [b"1"])
    sent: list[int] = []
    rm = type(bucket._files).rm

    def counted(files: object, paths: list[str]) -> None:
        sent.append(len(paths))
        rm(files, paths)

    monkeypatch.setattr(type(bucket._files), "rm", counted)
    bucket.remove(names[:5])
    assert (sent, list(bucket.names())) == ([2, 2, 1], ["5", "6"])


def test_a_listing_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> Iterator[tuple[str, int]]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(object_store, "walk", denied)
    with pytest.raises(StoreError, match=r"cannot be used \(Permission denied\)"):
        memory().list("a", ".json")


@pytest.mark.parametrize("name", ["../a", "/a", "", "a//b", "a/./b"])
def test_nothing_is_written_elsewhere(name: str) -> None:
    with pytest.raises(StoreError, match="outside of"):
        ObjectStore(Url("memory://x/y")).write(name, [b""])


def test_the_web_is_not_for_results() -> None:
    with pytest.raises(InputError, match="give a bucket"):
        folder_at(Url("https://example.org/x"))


def test_a_bucket_that_is_not_there(s3: None) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        ObjectStore(Url("s3://no-such-bucket/x")).write("a", [b""])
    with pytest.raises(InputError, match="nothing is there"):
        list(list_images([Url("s3://no-such-bucket/x")]))


def test_rows_become_shards_and_shards_one_table(
    root: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_FLUSH_SECONDS", -1.0)
    monkeypatch.setattr(manifests, "_SLOWER", 1e9)
    bucket = ObjectStore(root)
    ledger = Manifest(bucket)
    for number in range(3):
        ledger.append(row(f"{number}.jpg"))
    ledger.append(row("1.jpg", "failed", error="broken", attempt=2))
    assert len(bucket.list("manifest", ".parquet")) == 4
    for _ in range(2):
        table = Manifest(bucket).table()
        assert table["name"].to_pylist() == ["0.jpg", "1.jpg", "2.jpg"]
        assert table["attempt"].to_pylist() == [1, 2, 1]
        ledger.compact()
        assert len(bucket.list("manifest", ".parquet")) == 1
    assert b"broken" in (bucket.read("errors.jsonl") or b"")


def photos_at(root: Url, folder: Path) -> Url:
    """The same photos as in a folder, as objects."""
    bucket = ObjectStore(root / "photos")
    for path in sorted(folder.rglob("*.*")):
        bucket.write(path.relative_to(folder).as_posix(), [path.read_bytes()])
    return root / "photos"


def run(photos: Location, out: Location, **options: object) -> Summary:
    listing = partial(list_images, [photos])
    defaults = {"build": build, "preview": False, "console": Console(file=io.StringIO())}
    return label(listing, out, RECIPE, **(defaults | options))


def results(out: Location) -> dict[str, bytes]:
    """Every result by its name, but for its timing."""
    store = folder_at(out)
    names = (
        [name for name, _ in store.walk("annotations")]
        if isinstance(store, ObjectStore)
        else [p.relative_to(out / "annotations").as_posix() for p in out.rglob("*.json")
              if "annotations" in p.parts]
    )  # fmt: skip
    contents = {name: store.read(f"annotations/{name}") or b"" for name in names}
    return {name: content.split(b',"timing":')[0] for name, content in sorted(contents.items())}


@pytest.mark.parametrize("workers", [1, 2])
def test_from_bucket_to_bucket_as_from_folder_to_folder(
    root: Url, tmp_path: Path, workers: int
) -> None:
    if root.startswith("memory") and workers > 1:
        pytest.skip("other processes have other memories")
    for number in range(5):
        save_photo(tmp_path / f"photos/{number % 2}/{number}.jpg", number)
    (tmp_path / "photos/0/broken.jpg").write_bytes(b"no photo")
    run(tmp_path / "photos", tmp_path / "out")
    photos, out = photos_at(root, tmp_path / "photos"), root / "out"
    summary = run(photos, out, workers=workers)
    assert (summary.done, summary.failed, summary.exit_code) == (5, 1, 3)
    assert results(out) == results(tmp_path / "out")
    found = status(out)
    assert (found.images, found.done, found.failed, found.left) == (6, 5, 1, 0)
    assert found.state == "ended"
    assert run(photos, out, workers=workers).skipped == 5
    # Lost rows, broken and missing results, and a photo that was put in another's place.
    bucket = ObjectStore(out)
    bucket.remove(list(bucket.names("manifest")))
    bucket.delete("annotations/0/0.jpg.json")
    bucket.write("annotations/0/2.jpg.json", [b"{"])
    again = run(photos, out)
    assert (again.skipped, again.done, again.failed) == (3, 2, 1)
    ObjectStore(photos).write("1/1.jpg", [b"other"])
    assert run(photos, out).failed == 2
    assert "1/1.jpg.json" not in results(out)


def test_another_recipe_and_overwrite(root: Url, tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg")
    photos = photos_at(root, tmp_path)
    run(photos, root / "out")
    other = RECIPE.model_copy(update={"output": Output(label_map=True)})
    store = Store(root / "out", other)
    with pytest.raises(StoreError, match="another recipe"), store.opened():
        pass
    listing = partial(list_images, [photos])
    options = {"build": build, "preview": False, "console": Console(file=io.StringIO())}
    assert label(listing, root / "out", other, overwrite=True, **options).done == 1
    assert label(listing, root / "out", other, **options).skipped == 1
    bucket = ObjectStore(root / "out")
    bucket.remove(list(bucket.names("label_maps")))
    assert label(listing, root / "out", other, **options).done == 1


def test_a_summary_names_the_place(tmp_path: Path) -> None:
    root = Url(f"memory://{uuid4().hex}")
    save_photo(tmp_path / "a.jpg")
    summary = run(tmp_path, root)
    text = Console(file=io.StringIO(), width=120)
    summary.print_to(text)
    assert f"{root}/annotations" in text.file.getvalue()
    assert summary.as_dict()["out"] == root


def test_status_of_no_job(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no job was started here"):
        status(tmp_path)


def test_status_of_a_job_that_runs(tmp_path: Path) -> None:
    for number in range(4):
        save_photo(tmp_path / f"photos/{number}.jpg", number)
    seen, listing = [], partial(list_inputs, [tmp_path / "photos"])
    watched = build_watched(lambda _: seen.append(status(tmp_path / "out")))
    label(listing, tmp_path / "out", RECIPE, build=watched, preview=False)
    assert {found.state for found in seen} == {"running, or killed"}
    assert [found.images for found in seen] == [4] * 4
    assert seen[-1].done + seen[-1].left == 4
    assert pq.read_table(tmp_path / "out/manifest").num_rows == 4
    assert located(str(tmp_path / "out")) == tmp_path / "out"
    assert replace(status(tmp_path / "out"), state="").done == 4
