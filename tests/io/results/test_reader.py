"""Results read back."""

import io
import json
import tarfile
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from everything.config import Output
from everything.errors import InputError
from everything.evaluation.mask_scores import evaluate
from everything.export.run import export
from everything.io.images.listing import list_images
from everything.io.images.sources import Source
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.io.storage.locations import Location, Url
from everything.io.storage.object_store import ObjectStore
from everything.jobs.label import label
from everything.report.build import write_report
from tests.fakes import RECIPE, build, save_photo
from tests.jobs.clusters import in_one_worker
from tests.labelled import disc, records, write_labels

MASK = disc((30, 40), (20, 15), 8)
_DOCUMENT = {
    "image": {"image_id": 1, "width": 40, "height": 30, "file_name": "y.jpg"},
    "annotations": records([MASK]),
}


def test_what_the_store_wrote_comes_back(tmp_path: Path):
    write_labels(tmp_path / "out", tmp_path / "photos", {"a/x.png": [MASK], "b.png": [MASK] * 2})
    results = Results(tmp_path / "out")
    assert list(results.files) == ["a/x.png", "b.png"]
    one, two = results
    assert (one.name, one.size, len(one.annotations), len(two.annotations)) == (
        "a/x.png", (30, 40), 1, 2,
    )  # fmt: skip
    assert sum(one.seconds()) == one.timing["total"]
    assert one.recipe["variant"] == "toy"
    assert results.image("a/x.png", one.name) == Source(str(tmp_path / "photos"), "a/x.png")


def test_sa1b_folder(tmp_path: Path):
    about = {"image_id": 7, "width": 40, "height": 30, "file_name": "sa_7.jpg"}
    content = {"image": about, "annotations": records([MASK])}
    (tmp_path / "sa_7.json").write_text(json.dumps(content))
    (tmp_path / "sa_7.jpg").write_bytes(b"")
    (result,) = Results(tmp_path)
    assert (result.name, result.timing, result.seconds()) == ("sa_7.jpg", {}, [0.0] * 7)
    assert Results(tmp_path).image("sa_7", "sa_7.jpg") == Source(str(tmp_path), "sa_7.jpg")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", ""])
def test_names_that_lead_out_of_the_folder_are_no_photos(tmp_path: Path, name: str):
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"")
    results = Results(tmp_path / "out", tmp_path / "photos")
    results.files["x"] = "annotations/x.json"
    assert results.image("x", name) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"image": {}, "annotations": []}', '{"image": 1}', "\x00"]
)
def test_other_json_is_refused_by_name(tmp_path: Path, content: str):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json: not an annotation file"):
        Results(tmp_path).read("x")
    (tmp_path / "y.json").write_text(json.dumps(_DOCUMENT))
    results = Results(tmp_path)
    assert [result.name for result in results] == ["y.jpg"]
    assert [*results.unreadable] == ["x"]
    assert "not an annotation file" in results.unreadable["x"]


def test_a_folder_above_results_is_none_itself(tmp_path: Path, photos: Path):
    for name in ("a", "b"):
        job(photos, tmp_path / "all" / name, "json")
    with pytest.raises(InputError, match=r"all: a folder above results folders.*such as a$"):
        list(Results(tmp_path / "all"))
    assert len(Results(tmp_path / "all" / "a").files) > 0


def test_a_missing_folder(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        Results(tmp_path / "nothing")


def test_failures_that_were_mended_are_none(tmp_path: Path):
    failures = {"bad.jpg": "bad.jpg: broken", "later.png": "once"}
    write_labels(tmp_path / "o", tmp_path / "p", {"ok.png": [MASK]}, failures=failures)
    write_labels(tmp_path / "o", tmp_path / "p", {"later.png": [MASK]})
    assert Results(tmp_path / "o").failures == {"bad.jpg": "bad.jpg: broken"}


def test_a_cut_line_of_the_ledger_is_skipped(tmp_path: Path):
    write_labels(tmp_path / "o", tmp_path / "p", {}, failures={"a": "b"})
    with (tmp_path / "o/ledger.jsonl").open("a") as file:
        file.write('{"name": "c", "er')
    assert Results(tmp_path / "o").failures == {"a": "b"}


def job(inputs: Location, out: Location, form: str) -> Results:
    recipe = RECIPE.model_copy(update={"output": Output(form=form)})
    label(partial(list_images, [inputs]), out, recipe, build=build, preview=False,
          console=Console(file=io.StringIO()), executor=in_one_worker)  # fmt: skip
    return Results(out)


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return tmp_path / "out" if request.param == "folder" else Url(f"memory://{uuid4().hex}/out")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        save_photo(tmp_path / f"photos/{number % 2}/{number}.jpg", number)
    (tmp_path / "photos/bad.jpg").write_bytes(b"bad")
    return tmp_path / "photos"


@pytest.mark.parametrize("form", ["json", "parquet", "tar"])
def test_every_form_and_place_is_read_alike(
    tmp_path: Path, photos: Path, root: Location, form: str
):
    plain = job(photos, tmp_path / "plain", "json")
    results = job(photos, root, form)
    assert list(results.files) == list(plain.files) == ["0/0.jpg", "0/2.jpg", "1/1.jpg"]
    for key in plain.files:
        one, other = plain.read(key), results.read(key)
        assert (one.name, one.size, one.annotations) == (other.name, other.size, other.annotations)
        assert original_image(results, key, other).shape == (*other.size, 3)
    assert list(results.failures) == ["bad.jpg"]
    assert evaluate(root, tmp_path / "plain", boundaries=False).ar["1000"] == 1.0
    fidelity = export(root, "coco", tmp_path / "coco", photos="copy")
    assert (fidelity.images, fidelity.masks) == (3, sum(len(one.annotations) for one in plain))
    assert "3 images" in write_report(root, tmp_path / "page").read_text()
    # Without a row to say so, the results themselves tell which there are.
    manifest = ObjectStore(root) if isinstance(root, Url) else None
    if manifest is not None:
        manifest.remove(list(manifest.names("manifest")))
    else:
        next(Path(root, "manifest").glob("*.parquet")).unlink()
    assert sorted(Results(root).files) == list(plain.files)


def test_photos_in_archives_and_lists_are_found(tmp_path: Path, photos: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(photos / "1/1.jpg", "a/1.jpg")
    (tmp_path / "list.jsonl").write_text(json.dumps({"uri": "photos/0/2.jpg", "name": "n/two"}))
    for inputs, key in ((tmp_path / "x.tar", "x.tar/a/1.jpg"), (tmp_path / "list.jsonl", "n/two")):
        results = job(inputs, tmp_path / f"out-{inputs.stem}", "json")
        assert original_image(results, key, results.read(key)).shape == (48, 64, 3)


@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_of_a_photo_in_two_shards_the_one_of_its_row_counts(
    tmp_path: Path, photos: Path, form: str
):
    before = job(photos, tmp_path / "out", form)
    assert before.files["0/0.jpg"] == before.files["0/2.jpg"]
    save_photo(photos / "0/0.jpg", 9, (30, 40))
    after = job(photos, tmp_path / "out", form)
    assert before.files["0/2.jpg"] == after.files["0/2.jpg"] != after.files["0/0.jpg"]
    assert (before.read("0/0.jpg").size, after.read("0/0.jpg").size) == ((48, 64), (30, 40))


@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_a_broken_shard_is_named(tmp_path: Path, form: str):
    (tmp_path / "annotations").mkdir()
    (tmp_path / f"annotations/x.{form}").write_bytes(b"x" * 600)
    results = Results(tmp_path)
    assert list(results) == []
    assert f"x.{form}: not an annotation file" in results.unreadable[f"annotations/x.{form}"]


def test_a_bucket_with_nothing_in_it():
    with pytest.raises(InputError, match="no results there"):
        Results(Url(f"memory://{uuid4().hex}"))
