"""`label --dry-run`: what would be done, and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from everything.errors import InputError, StoreError
from everything.io.images.listing import list_images
from everything.jobs.dry_run import Plan, plan
from everything.jobs.label import label
from tests.fakes import RECIPE, build, save_photo


def planned(folder: Path, out: Path, **options: object) -> Plan:
    return plan(lambda: list_images([folder], out), out, RECIPE, build=build, **options)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in folder.rglob("*")}


def test_a_new_folder_stays_away(tmp_path: Path) -> None:
    for number in range(5):
        save_photo(tmp_path / f"in/{number}.jpg", number)
    found = planned(tmp_path / "in", tmp_path / "out")
    assert (found.images, found.done, found.to_label, found.measured) == (5, 0, 5, 3)
    assert found.bytes == sum(file.stat().st_size for file in (tmp_path / "in").iterdir())
    assert found.masks_per_image
    assert found.seconds == pytest.approx(5 * found.seconds_per_image)
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_counted_and_nothing_changes(tmp_path: Path) -> None:
    for number in range(3):
        save_photo(tmp_path / f"in/{number}.jpg", number)
    (tmp_path / "in/broken.jpg").touch()
    out = tmp_path / "out"
    label(lambda: list_images([tmp_path / "in"], out), out, RECIPE, build=build, preview=False)
    for number in range(3, 10):
        save_photo(tmp_path / f"in/{number}.jpg", number)
    os.utime(tmp_path / "in/0.jpg", ns=(1, 1))  # copied: it has the same content
    before = tree(tmp_path)
    found = planned(tmp_path / "in", out)
    assert tree(tmp_path) == before
    assert (found.images, found.done, found.to_label, found.failed_before) == (11, 3, 8, 1)
    # "broken.jpg" comes last.
    assert (found.measured, found.failures) == (3, [])
    again = planned(tmp_path / "in", out, overwrite=True)
    assert (again.done, again.to_label, again.failed_before) == (0, 11, 0)
    assert tree(tmp_path) == before


def test_what_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.jpg").touch()
    found = planned(tmp_path / "in", tmp_path / "out")
    assert (found.measured, found.seconds_per_image, found.seconds) == (1, None, None)
    assert "broken.jpg: the file is empty" in found.failures[0]


def test_it_refuses_what_the_job_would_refuse(tmp_path: Path) -> None:
    save_photo(tmp_path / "in/0.jpg")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no images"):
        planned(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "out/annotations").mkdir(parents=True)
    (tmp_path / "out/annotations/mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="not written by this program"):
        planned(tmp_path / "in", tmp_path / "out")
    done = tmp_path / "done"
    other = RECIPE.model_copy(update={"sampler": {"name": "grid", "points_per_side": 2}})
    label(lambda: list_images([tmp_path / "in"], done), done, other, build=build, preview=False)
    with pytest.raises(StoreError, match=r"sampler.points_per_side is 2 there and 3 now"):
        planned(tmp_path / "in", done)
    assert planned(tmp_path / "in", done, continue_anyway=True).done == 1
