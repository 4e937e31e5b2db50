"""What the program wrote below the folder of images is not labelled."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from everything.config import Nms
from everything.export.run import export
from everything.io.images.listing import list_images
from everything.io.storage.locations import Location, Url
from everything.io.storage.object_store import ObjectStore
from everything.io.storage.ownership import MARKER
from everything.jobs.label import label
from everything.jobs.summary import Summary
from everything.report.build import write_report
from tests.fakes import RECIPE, build, save_photo


def run(images: Location, out: Location, **changes: object) -> Summary:
    quiet, recipe = Console(file=io.StringIO()), RECIPE.model_copy(update=changes)
    listing = partial(list_images, [images], out)
    return label(listing, out, recipe, build=build, preview=False, console=quiet)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        save_photo(tmp_path / "P" / name, ord(name[0]))
    return tmp_path / "P"


@pytest.mark.parametrize("has_marker", [True, False])
def test_results_reports_and_exports_among_the_images(
    images: Path, has_marker: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(images, images / "run1").done == 2
    write_report(images / "run1")
    write_report(images / "run1", images / "page")
    export(images / "run1", "yolo-seg", images / "yolo", photos="copy")
    if not has_marker:
        for marker in images.rglob(MARKER):
            marker.unlink()
    assert run(images, images / "run2", nms=Nms(box_nms_thresh=0.6)).images == 2
    assert "P/run1: results of this program: 6 images in it are left out" in caplog.text
    assert "P/yolo: export of this program: 2 images" in caplog.text
    assert run(images, images / "run1").skipped == 2
    assert [source.name for source in list_images([images])] == ["a.jpg", "b.jpg"]


def test_images_beside_results_are_labelled(images: Path) -> None:
    run(images, images.parent)
    save_photo(images.parent / "more/c.jpg", 3)
    names = [source.name for source in list_images([images.parent])]
    assert names == ["P/a.jpg", "P/b.jpg", "more/c.jpg"]


def test_an_export_that_is_named_is_meant(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    export(tmp_path / "out", "yolo-seg", tmp_path / "yolo", photos="copy")
    for place in (tmp_path / "yolo", tmp_path / "yolo/images"):
        assert len(list(list_images([place]))) == 2


def test_results_among_the_images_of_a_bucket(images: Path) -> None:
    root = Url(f"memory://{uuid4().hex}")
    bucket = ObjectStore(root)
    for path in images.iterdir():
        bucket.write(path.name, [path.read_bytes()])
    run(images, root / "run1")
    bucket.write("run1/report/photos/000000.jpg", [b"x"])
    bucket.write("run1/mine.jpg", [b"x"])
    assert [s.name for s in list_images([root])] == ["a.jpg", "b.jpg", "run1/mine.jpg"]
