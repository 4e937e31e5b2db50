"""Images that were changed in place, and results that were moved together with their images."""

from __future__ import annotations

import io
import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from everything.export.run import export
from everything.io.images.listing import list_images
from everything.io.results.image_folders import FILE
from everything.io.results.reader import Results
from everything.jobs.label import label
from everything.jobs.summary import Summary
from tests.fakes import RECIPE, build, save_photo


def run(images: Path, out: Path, **options: object) -> Summary:
    quiet = Console(file=io.StringIO())
    listing = partial(list_images, [images], out)
    return label(listing, out, RECIPE, build=build, preview=False, console=quiet, **options)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        save_photo(tmp_path / f"R/photos/{number}.bmp", number)  # all of one size
    return tmp_path / "R/photos"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_changed_at_equal_size_is_labelled_again(
    images: Path, tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    run(images, tmp_path / "out", workers=workers)
    before = (tmp_path / "out/annotations/1.bmp.json").read_bytes().split(b',"timing"')[0]
    size = (images / "1.bmp").stat().st_size
    save_photo(images / "1.bmp", 17)
    assert (images / "1.bmp").stat().st_size == size
    summary = run(images, tmp_path / "out", workers=workers)
    assert (summary.skipped, summary.done) == (2, 1)
    assert "1 images have changed since they were labelled" in caplog.text
    after = (tmp_path / "out/annotations/1.bmp.json").read_bytes().split(b',"timing"')[0]
    assert after != before
    assert run(images, tmp_path / "out").skipped == 3


def test_another_date_is_no_other_image(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    for path in images.iterdir():
        os.utime(path, (1, 1))
    assert run(images, tmp_path / "out").skipped == 3


def test_listed_images_are_skipped_and_noticed_when_changed(images: Path, tmp_path: Path) -> None:
    place = tmp_path / "list.txt"
    place.write_text("\n".join(str(path) for path in sorted(images.iterdir())))
    run(place, tmp_path / "out")
    assert run(place, tmp_path / "out").skipped == 3
    save_photo(images / "1.bmp", 17)
    assert run(place, tmp_path / "out").done == 1


@pytest.mark.parametrize("edit", ["torn", "other boxes", "no masks"])
def test_an_annotation_that_was_edited_counts_or_is_set_aside(
    images: Path, tmp_path: Path, edit: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(images, tmp_path / "out")
    file = tmp_path / "out/annotations/1.bmp.json"
    document = json.loads(file.read_bytes())
    for annotation in document["annotations"]:
        if edit == "other boxes":
            annotation["bbox"] = [1, 2, 3, 4]
        else:
            del annotation["segmentation"]
    file.write_text(json.dumps(document)[: -1 if edit == "torn" else None])
    edited = file.read_bytes()
    summary = run(images, tmp_path / "out")
    if edit == "other boxes":  # can be read: it counts
        assert (summary.skipped, file.read_bytes()) == (3, edited)
        return
    assert (summary.skipped, summary.done) == (2, 1)
    assert (tmp_path / "out/set-aside/annotations/1.bmp.json").read_bytes() == edited
    assert "1.bmp.json: not as this program wrote it: set aside" in caplog.text
    assert len(list(Results(tmp_path / "out"))) == 3


def found(results: Path) -> list[Path | None]:
    labels = Results(results)
    sources = [labels.image(key, labels.read(key).name) for key in labels.files]
    return [source and Path(source.location) for source in sources]


def test_results_moved_with_their_images_find_them(images: Path, tmp_path: Path) -> None:
    run(images, images.parent)
    images.parent.rename(tmp_path / "R2")
    moved = tmp_path / "R2/photos"
    assert found(tmp_path / "R2") == [moved / f"{n}.bmp" for n in range(3)]
    assert run(moved, tmp_path / "R2").skipped == 3
    fidelity = export(tmp_path / "R2", "yolo-seg", tmp_path / "y")
    assert fidelity.images_not_found == 0


def test_of_two_places_the_one_that_moved_along_counts(images: Path, tmp_path: Path) -> None:
    run(images, images.parent)
    shutil.copytree(images.parent, tmp_path / "R2")
    for path in images.iterdir():
        path.write_bytes(b"another image")
    assert found(tmp_path / "R2")[0] == tmp_path / "R2/photos/0.bmp"


def test_results_alone_find_the_images_where_they_were(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    (tmp_path / "x/y").mkdir(parents=True)
    (tmp_path / "out").rename(tmp_path / "x/y/out")
    assert found(tmp_path / "x/y/out") == [images / f"{n}.bmp" for n in range(3)]


def test_images_that_were_labelled_again_elsewhere_are_found(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    images.rename(tmp_path / "elsewhere")
    assert found(tmp_path / "out") == [None] * 3
    assert run(tmp_path / "elsewhere", tmp_path / "out").skipped == 3
    assert found(tmp_path / "out") == [tmp_path / f"elsewhere/{n}.bmp" for n in range(3)]


def test_the_folder_that_was_given_is_remembered(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    images.rename(tmp_path / "elsewhere")
    export(tmp_path / "out", "yolo-seg", tmp_path / "y", home=tmp_path / "elsewhere")
    assert (tmp_path / "out" / FILE).is_file()
    assert export(tmp_path / "out", "coco", tmp_path / "z", photos="link").images_not_found == 0
    run(tmp_path / "elsewhere", tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / FILE).exists()


def test_nothing_is_recorded_in_folders_of_others(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    (tmp_path / "theirs").mkdir()
    for path in (tmp_path / "out/annotations").iterdir():
        shutil.copy(path, tmp_path / "theirs")
    before = sorted((tmp_path / "theirs").rglob("*"))
    export(tmp_path / "theirs", "yolo-seg", tmp_path / "y", home=images)
    assert sorted((tmp_path / "theirs").rglob("*")) == before
