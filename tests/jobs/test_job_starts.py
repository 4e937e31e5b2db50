"""What a job notices before its first image, after its first images, and what `status` says."""

from __future__ import annotations

import json
import logging
import os
import tarfile
from pathlib import Path

import pytest

import everything
from everything.errors import ConfigError, InputError, JobError, WeightsError
from everything.io.images.listing import list_images
from everything.io.images.sources import Source, list_inputs
from everything.io.results.manifest import Manifest
from everything.io.storage.local import Folder
from everything.jobs.image_list import ImageList
from everything.jobs.label import label
from everything.jobs.status import has_crashed, status
from everything.jobs.summary import Summary
from tests.fakes import RECIPE, build, save_photo


def run(*photos: Path, out: Path, **options: object) -> Summary:
    return label(
        lambda: list_images(photos, out), out, RECIPE, build=build, preview=False, **options
    )


def images(folder: Path, *names: str, seed: int = 0) -> Path:
    for number, name in enumerate(names):
        save_photo(folder / name, seed + number)
    return folder


def counts(out: Path) -> tuple[int, int, int, int]:
    found = status(out)
    return found.images, found.done, found.failed, found.left


# --- files that are missing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        ("object-aware", {"detector": "nowhere.pt"}),
        ("all-instance", {"detector": "nowhere.pt"}),
        ("auto-ppn", {"head": "nowhere.safetensors"}),
    ],
)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_samplers_file_that_cannot_be_read_is_noticed_before_the_first_image(
    tmp_path: Path, sampler: str, settings: dict[str, str], is_there: bool
) -> None:
    ((setting, name),) = settings.items()
    if is_there:
        (tmp_path / name).write_bytes(b"nothing of the kind")
    photos, out = images(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    with pytest.raises(WeightsError, match=name):
        everything.label(photos, out, sampler=sampler, **{setting: str(tmp_path / name)})
    assert not out.exists()


def test_the_samplers_of_a_combination_are_looked_at(tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("sampler: {name: object-aware+grid-16, first: {detector: nowhere.pt}}")
    with pytest.raises(WeightsError, match=r"nowhere\.pt"):
        everything.load(config=config)


def test_a_variant_without_a_head_is_noticed_before_the_first_image(tmp_path: Path) -> None:
    weights = {"variant": "nano", "sampler": "auto-ppn"}
    everything.load(**weights)
    with pytest.raises(WeightsError, match="not a readable head"):
        everything.load(**weights, head=str(tmp_path))


# --- images that all fail alike ------------------------------------------------------------------


def broken(folder: Path, count: int, start: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(start, start + count):
        (folder / f"{number:03}.jpg").write_bytes(b"no image" + number * b"!")
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_whose_first_images_all_fail_alike_stops(tmp_path: Path, workers: int) -> None:
    photos, out = broken(tmp_path / "photos", 60), tmp_path / "out"
    with pytest.raises(JobError, match=r"the first 20 images failed for the same reason .*known"):
        run(photos, out=out, workers=workers)
    assert not has_crashed(Folder(out))
    images, done, failed, left = counts(out)
    assert (images, done, failed + left) == (60, 0, 60)
    assert 20 <= failed < 60
    assert len((out / "errors.jsonl").read_text().splitlines()) == failed


@pytest.mark.parametrize("limit", [0, 61])
def test_how_many_is_a_setting(tmp_path: Path, limit: int) -> None:
    photos = broken(tmp_path / "photos", 60)
    summary = run(photos, out=tmp_path / "out", stop_after_failures=limit)
    assert (summary.failed, summary.exit_code) == (60, 3)


def test_other_reasons_stop_nothing(tmp_path: Path) -> None:
    photos = broken(tmp_path / "photos", 18)
    (photos / "0.jpg").write_bytes(b"")  # listed first, and empty
    assert run(photos, out=tmp_path / "out", stop_after_failures=18).failed == 19


def test_images_that_fail_again_stop_no_job_in_which_others_are_done(tmp_path: Path) -> None:
    photos, out = images(tmp_path / "photos", "z.jpg"), tmp_path / "out"
    assert run(photos, out=out).done == 1
    broken(photos, 30)
    for _ in range(2):
        assert run(photos, out=out).failed == 30


def test_the_command_says_why_it_stops(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from everything.cli.main import app

    photos = broken(tmp_path / "photos", 3)
    command = ["label", str(photos), "--out", str(tmp_path / "out"), "--stop-after-failures", "2"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 1
    assert "the first 2 images failed for the same reason" in found.output


# --- status --------------------------------------------------------------------------------------


def test_status_counts_the_images_of_all_jobs_in_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = images(tmp_path / "first", "a.jpg", "b.jpg")
    second = images(tmp_path / "second", "c.jpg", "d.jpg", "e.jpg")
    run(first, out=out)
    assert counts(out) == (2, 2, 0, 0)
    run(second, out=out)
    assert counts(out) == (5, 5, 0, 0)
    run(first, out=out)
    assert counts(out) == (5, 5, 0, 0)
    (second / "f.jpg").write_bytes(b"")
    assert run(first, second, out=tmp_path / "both").failed == 1
    assert counts(tmp_path / "both") == (6, 5, 1, 0)


def test_status_after_a_limit(tmp_path: Path) -> None:
    photos, out = images(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "out"

    def some(count: int) -> None:
        label(lambda: list(list_inputs([photos]))[:count], out, RECIPE, build=build, preview=False)

    some(3)
    some(1)
    assert counts(out) == (3, 3, 0, 0)


def test_status_while_a_second_folder_is_labelled(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []
    run(images(tmp_path / "first", "a.jpg", "b.jpg"), out=out)
    second = images(tmp_path / "second", "c.jpg", "d.jpg", "e.jpg")

    def look(recipe: object) -> object:
        return build(RECIPE)

    def here(make: object, store: object, tasks: object, emit: object) -> None:
        seen.append(counts(out))

    label(lambda: list_images([second]), out, RECIPE, build=look, preview=False, executor=here)
    assert seen == [(5, 2, 0, 3)]


def test_a_rerun_with_nothing_to_do_leaves_the_speed(tmp_path: Path) -> None:
    photos, out = images(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    run(photos, out=out)
    before = status(out)
    assert before.images_per_second > 0
    assert run(photos, out=out).skipped == 2
    assert status(out) == before


def test_folders_of_earlier_versions_have_a_status(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(images(tmp_path / "photos", "a.jpg", "b.jpg"), out=out)
    state = out / "manifest/_job.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"images": 1}))
    assert counts(out) == (2, 2, 0, 0)


# --- images and names ----------------------------------------------------------------------------


def test_another_image_of_the_same_name_is_refused_before_anything_is_replaced(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    first = images(tmp_path / "first", "a.jpg", "b.jpg")
    second = images(tmp_path / "second", "b.jpg", "c.jpg", seed=7)
    run(first, out=out)
    result = (out / "annotations/b.jpg.json").read_bytes()
    with pytest.raises(InputError, match=r"second/b\.jpg: .* first/b\.jpg|first/b\.jpg") as found:
        run(second, out=out)
    assert "give another --out, or label both folders in one command" in str(found.value)
    assert (out / "annotations/b.jpg.json").read_bytes() == result
    assert not (out / "annotations/c.jpg.json").exists()
    # Both folders in one command have different names.
    assert run(first, second, out=tmp_path / "both").done == 4


def test_a_folder_that_was_moved_or_copied_goes_on(tmp_path: Path) -> None:
    photos, out = images(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    run(photos, out=out)
    photos.rename(tmp_path / "moved")
    assert run(tmp_path / "moved", out=out).skipped == 2
    images(tmp_path / "photos", "a.jpg", "b.jpg")  # the same content
    assert run(tmp_path / "photos", out=out).skipped == 2
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert run(tmp_path / "link", out=out).skipped == 2


def test_an_image_that_two_folders_name_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos, out = images(tmp_path / "photos", "in/a.jpg", "in/b.jpg", "c.jpg"), tmp_path / "out"
    logging.getLogger("everything").propagate = True
    run(photos / "in", out=out)
    with caplog.at_level(logging.WARNING, "everything"):
        run(photos, out=out)
    (message,) = [m for m in caplog.messages if "another name" in m]
    assert message.startswith("2 images were labelled before under another name")
    assert "in/a.jpg as a.jpg" in message


def test_two_members_of_one_name_are_noticed(tmp_path: Path) -> None:
    photos = images(tmp_path / "photos", "a.jpg", "b.jpg")
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for name in ("a.jpg", "b.jpg", "a.jpg"):
            archive.add(photos / name, name)
    summary = run(tmp_path / "some.tar", out=tmp_path / "out")
    assert (summary.images, summary.done, summary.left_out) == (2, 2, 1)
    assert summary.as_dict()["left_out"] == 1
    assert Manifest(Folder(tmp_path / "out")).table().num_rows == 2


def test_a_list_of_images_keeps_order_and_everything_else() -> None:
    listed = [Source("/a", f"{number % 9001}.jpg", number, "/b", 3) for number in range(10_000)]
    listed[3] = listed[9004] = Source("/a", os.fsdecode(b"\xff.jpg"))
    found = ImageList(iter(listed))
    assert list(found) == listed[:9001]
    assert (len(found), found.left_out) == (9001, 999)
    assert list(ImageList([])) == []


def test_a_wrong_setting_is_a_setting_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        everything.label(tmp_path, tmp_path / "out", head="x")
