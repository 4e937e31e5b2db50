"""No file of others is changed by labelling into a folder, whatever it holds."""

from __future__ import annotations

import hashlib
import io
import json
from functools import partial
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from everything.config import IMPORTED, Nms, Output, Recipe
from everything.errors import StoreError
from everything.io.images.listing import list_images
from everything.io.results.categories import Category, add_categories
from everything.io.results.reader import Results
from everything.io.results.writer import folder_at
from everything.io.storage.locations import Location, Url
from everything.io.storage.ownership import MARKER
from everything.jobs.label import label
from everything.jobs.summary import Summary
from tests.fakes import RECIPE, build, save_photo

MAPS = RECIPE.model_copy(update={"output": Output(label_map=True)})
FOREIGN = {
    "annotations/instances_val.json": b'{"images": [], "annotations": []}',
    "annotations/a.jpg": b"a photo",
    "label_maps/a.png": b"a map",
    "manifest/part-00000.parquet": b"a table",
    "attempts/first.json": b"{}",
    "errors.jsonl": b'{"mine": 1}\n',
    "ledger.jsonl": b'{"mine": 1}\n',
    "recipe.yaml": b"flour: 500 g\n",
    "categories.json": b'{"cats": 3}\n',
    ".lock": b"of another program",
    ".partial/download": b"half",
    ".everything.jsonl": b"a list of everything\n",
}


@pytest.fixture(params=["disk", "memory"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return tmp_path / "out" if request.param == "disk" else Url(f"memory://{uuid4().hex}")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        save_photo(tmp_path / f"photos/{number}.jpg", number)
    return tmp_path / "photos"


def write(out: Location, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        if isinstance(out, Url):
            folder_at(out).write(name, [content])
        else:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)


def content_of(out: Location) -> dict[str, bytes]:
    if isinstance(out, Path):
        found = (path for path in out.rglob("*") if path.is_file())
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}
    folder = folder_at(out)
    names = [name for name in (*folder.names(), ".lock") if folder.stamp(name)]
    return {name: folder.read(name) or b"" for name in names}


def run(photos: Path, out: Location, recipe: Recipe = RECIPE, **options: bool) -> Summary:
    listing, quiet = partial(list_images, [photos], out), Console(file=io.StringIO())
    return label(listing, out, recipe, build=build, preview=False, console=quiet, **options)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_others_is_refused_and_left_as_it_is(
    out: Location, photos: Path, name: str, overwrite: bool
) -> None:
    if isinstance(out, Url) and name.startswith(".partial"):
        pytest.skip("buckets have none")
    write(out, {name: FOREIGN[name], "readme.txt": b"mine"})
    before = content_of(out)
    with pytest.raises(StoreError, match=r"not wr.* by this program|did not write.*--out"):
        run(photos, out, overwrite=overwrite)
    assert content_of(out) == before


def test_a_table_of_others_is_no_manifest(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out/manifest").mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "out/manifest/part-00000.parquet")
    (tmp_path / "out/recipe.yaml").write_text(f"# digest: {'0' * 63}\n")
    before = content_of(tmp_path / "out")
    with pytest.raises(StoreError, match="manifest and recipe"):
        run(photos, tmp_path / "out", overwrite=True)
    assert content_of(tmp_path / "out") == before


def test_results_may_lie_beside_the_images(photos: Path) -> None:
    before = content_of(photos.parent)
    assert run(photos, photos.parent).done == 3
    assert run(photos, photos.parent).skipped == 3
    assert run(photos, photos.parent, MAPS, overwrite=True).done == 3
    assert {name: content_of(photos.parent)[name] for name in before} == before


def test_overwrite_deletes_nothing_but_results(
    out: Location, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(photos, out, MAPS)
    mine = {name: FOREIGN[name] for name in (
        "annotations/instances_val.json", "annotations/a.jpg", "label_maps/a.png",
        "attempts/first.json",
    )} | {"manifest/other.parquet": b"x", "report/mine.html": b"x"}  # fmt: skip
    write(out, mine)
    assert run(photos, out, RECIPE, overwrite=True).done == 3
    after = content_of(out)
    assert {name: after[name] for name in mine} == mine
    assert "5 files that this program did not write were kept" in caplog.text
    assert [name for name in after if name.startswith("label_maps")] == ["label_maps/a.png"]
    assert sum(name.startswith("annotations/") for name in after) == 5
    assert run(photos, out).skipped == 3


@pytest.mark.parametrize("edit", [None, b'{"categories": [{"id": 3, "name": "mine"}]}', b"{"])
def test_overwrite_deletes_the_classes_of_an_import(
    out: Location, photos: Path, edit: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_at(out)
    run(photos, out)
    add_categories(folder, [Category(3, "cat", "animal")])
    if edit is not None:
        write(out, {"categories.json": edit})
    assert run(photos, out, overwrite=True).done == 3
    assert Results(out).categories == []
    aside = content_of(out).get("set-aside/categories.json")
    assert aside == edit
    assert (edit is None) == ("set aside" not in caplog.text)


def test_folders_that_are_left_empty_go_too(photos: Path, tmp_path: Path) -> None:
    save_photo(photos / "x/y/a.jpg")
    run(photos, tmp_path / "out", MAPS)
    (photos / "x/y/a.jpg").unlink()
    run(photos, tmp_path / "out", RECIPE, overwrite=True)
    assert not (tmp_path / "out/label_maps").exists()
    assert not (tmp_path / "out/annotations/x").exists()


@pytest.mark.parametrize("missing", [(), ("manifest",), ("manifest", "annotations")])
def test_results_of_versions_without_a_marker(
    out: Location, photos: Path, missing: tuple[str, ...]
) -> None:
    run(photos, out)
    folder = folder_at(out)
    folder.delete(MARKER)
    for what in missing:
        folder.remove(list(folder.names(what)))
    assert run(photos, out).skipped == (0 if "annotations" in missing else 3)
    assert folder.read(MARKER)
    folder.delete(MARKER)
    assert run(photos, out, MAPS, overwrite=True).done == 3


def test_another_recipe_changes_nothing(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    write(tmp_path / "out", {".partial/here-1-2": b"half"})
    before = content_of(tmp_path / "out")
    with pytest.raises(StoreError, match="another recipe"):
        run(photos, tmp_path / "out", MAPS)
    assert {k: v for k, v in content_of(tmp_path / "out").items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }


@pytest.mark.parametrize("was_labelled", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", sorted({name.partition("/")[0] for name in FOREIGN}))
def test_links_are_refused(
    photos: Path, tmp_path: Path, name: str, overwrite: bool, was_labelled: bool
) -> None:
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    out.mkdir()
    if was_labelled:
        run(photos, out, MAPS)
    own = out / name
    if own.exists():
        own.rename(tmp_path / "moved")
    theirs.mkdir()
    if name in ("annotations", "label_maps", "manifest", "attempts", ".partial"):
        (theirs / "here-1-2").write_bytes(b"theirs")
        (theirs / "0.jpg.json").write_bytes(b"theirs")
        own.symlink_to(theirs)
    else:
        (theirs / "file").write_bytes(b"theirs")
        own.symlink_to(theirs / "file")
    before = content_of(theirs)
    with pytest.raises(StoreError, match=r"a link, and .* another --out"):
        run(photos, out, MAPS, overwrite=overwrite)
    assert content_of(theirs) == before
    assert own.is_symlink()


def test_a_link_deeper_inside_costs_only_its_images(photos: Path, tmp_path: Path) -> None:
    save_photo(photos / "x/a.jpg")
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    run(photos, out)
    theirs.mkdir()
    (out / "annotations/x/a.jpg.json").rename(tmp_path / "moved")
    (out / "annotations/x").rmdir()
    (out / "annotations/x").symlink_to(theirs)
    summary = run(photos, out)
    assert (summary.skipped, summary.failed) == (3, 1)
    assert "through a link" in (out / "errors.jsonl").read_text()
    (theirs / "a.jpg.json").write_bytes((tmp_path / "moved").read_bytes())
    run(photos, out, overwrite=True)
    assert (theirs / "a.jpg.json").exists()


def test_out_itself_may_be_a_link(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk2")
    assert run(photos, tmp_path / "out").done == 3
    assert (tmp_path / "disk2/annotations/0.jpg.json").is_file()


def test_a_newer_version_of_the_program_resumes(out: Location, photos: Path) -> None:
    run(photos, out)
    assert run(photos, out, RECIPE.model_copy(update={"version": "99"})).skipped == 3


def test_the_digest_is_that_of_the_version_whose_masks_are_the_same() -> None:
    # As folders have it that were written before the format had a number of its own.
    first = Recipe(variant="coco", sampler={"name": IMPORTED}, version="0.1.0", weights="")
    content = first.model_dump(mode="json", exclude={"checkpoint": True, "compute": {"device"}})
    written = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert first.digest == first.model_copy(update={"version": "9"}).digest == written


def test_results_of_a_version_that_read_images_otherwise_are_not_resumed_silently(
    out: Location, photos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("everything.config.RESULTS_FORMAT", "0.1.0")  # without a stretch of TIFFs
        run(photos, out)
    before = content_of(out)
    with pytest.raises(StoreError, match=r"reads some images otherwise.*--continue-anyway"):
        run(photos, out)
    assert content_of(out) == before
    assert run(photos, out, continue_anyway=True).skipped == 3
    assert "reads some images otherwise" in caplog.text


def test_continue_anyway_keeps_results_of_other_settings(
    out: Location, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(photos, out)
    before = content_of(out)
    save_photo(photos / "more.jpg", 7)
    other = RECIPE.model_copy(update={"nms": Nms(box_nms_thresh=0.6)})
    with pytest.raises(StoreError, match="--continue-anyway"):
        run(photos, out, other)
    summary = run(photos, out, other, continue_anyway=True)
    assert (summary.skipped, summary.done) == (3, 1)
    assert "nms.box_nms_thresh is 0.7 there and 0.6 now" in caplog.text
    kept = {name: content for name, content in before.items() if name.startswith("annotations")}
    assert kept.items() <= content_of(out).items()
    assert b"0.6" in content_of(out)["annotations/more.jpg.json"]
