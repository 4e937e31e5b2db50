"""Disks that are full, read-only or gone: one line that says so, and the same command continues."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from everything.cli.main import app
from everything.config import Output
from everything.errors import StoreError
from everything.io.images.sources import list_inputs
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.jobs.label import label
from everything.jobs.summary import Summary
from tests.fakes import RECIPE, as_nobody, build, build_watched, save_photo
from tests.reliability.trees import check_whole, tree

RESULTS = 9
MAPS = RECIPE.model_copy(update={"output": Output(label_map=True)})


def _may_mount() -> bool:
    return (
        os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0
    )


needs_mounts = pytest.mark.skipif(not _may_mount(), reason="only root mounts disks")


@contextmanager
def disk(place: Path, **options: object) -> Iterator[Callable[..., None]]:
    """A disk of memory at `place`; gives what changes its options."""
    place.mkdir(exist_ok=True)

    def mount(*more: str, **options: object) -> None:
        text = ",".join([*more, *(f"{key}={value}" for key, value in options.items())])
        subprocess.run(["mount", "-t", "tmpfs", "-o", text, "tmpfs", place], check=True)

    mount(**options)
    try:
        yield partial(mount, "remount")
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(RESULTS - 1):
        save_photo(folder / f"{number % 2}/{number:02}.png", number)
    (folder / "0/broken.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("RGBA", (30, 20), (200, 90, 40, 128)).save(folder / "1/noted.png")
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(photos, out).exit_code == 3
    return out


def run(photos: Path, out: Path, then: Callable[[], object] | None = None) -> Summary:
    """The job; `then` is done when it has begun with half of the photos."""

    def on_image(number: int) -> None:
        if number == 5 and then is not None:
            then()

    listing, quiet = partial(list_inputs, [photos], out), Console(file=io.StringIO())
    builder = build if then is None else build_watched(on_image)  # which is for one process
    return label(listing, out, MAPS, build=builder, preview=False, console=quiet)


def one_line(error: StoreError, reason: str, out: Path) -> None:
    assert str(error) == (
        f"{out}: cannot be used ({reason}): fix that, then rerun the same command to resume"
    )


@needs_mounts
@pytest.mark.parametrize(("scarce", "step"), [("size", 12 * 1024), ("nr_inodes", 3)])
def test_a_full_disk(
    photos: Path, undisturbed: Path, tmp_path: Path, scarce: str, step: int
) -> None:
    """Full at any moment: at the first file, in the middle, when the manifest is written."""
    out, room, moments = tmp_path / "disk/out", 0, []
    while True:
        room += step
        with disk(tmp_path / "disk", **{scarce: room}) as remount:
            try:
                run(photos, out)
                break
            except StoreError as error:
                one_line(error, "no space left on device", out)
            moments.append(check_whole(out))
            assert list((out / ".partial").glob("*")) == []
            remount(**{scarce: 100 * step})
            assert run(photos, out).exit_code == 3
            assert tree(out) == tree(undisturbed)
    assert moments[0] == 0
    assert moments[-1] >= RESULTS - 1
    assert len(set(moments)) > 4


@needs_mounts
def test_a_full_disk_as_users_see_it(tmp_path: Path) -> None:
    save_photo(tmp_path / "photos/a.jpg")
    with disk(tmp_path / "disk", size="8k"):
        out = tmp_path / "disk/out"
        said = CliRunner().invoke(
            app, ["label", str(tmp_path / "photos"), "--out", str(out), "--sampler", "all-instance"]
        )
    assert said.exit_code == 1
    assert "Traceback" not in said.output
    last = said.output.splitlines()[-1]
    assert last.startswith(f"everything: {out}: cannot be used (no space left on device)")


@needs_mounts
def test_a_line_that_a_full_disk_cuts_is_an_error(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", size="4k"):
        folder = Folder(tmp_path / "disk")
        folder.append("ledger.jsonl", b"a" * 4000 + b"\n")
        with pytest.raises(StoreError, match="no space left"):
            folder.append("ledger.jsonl", b"b" * 200 + b"\n")
        assert (tmp_path / "disk/ledger.jsonl").stat().st_size == 4096  # what it had room for


@needs_mounts
def test_a_disk_that_becomes_read_only(photos: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def freeze() -> None:
        time.sleep(0.5)  # in which all that was begun is written
        # Not the folder itself, which a job that holds its lock keeps writable.
        partial = str(out / ".partial")
        subprocess.run(["mount", "--bind", partial, partial], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", partial], check=True)

    try:
        with pytest.raises(StoreError) as caught:
            run(photos, out, freeze)
        one_line(caught.value, "read-only file system", out)
        assert 0 < check_whole(out) < RESULTS
    finally:
        subprocess.run(["umount", out / ".partial"], check=True)
    assert run(photos, out).skipped > 0
    assert tree(out) == tree(undisturbed)


@needs_mounts
def test_a_read_only_disk(photos: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", size="1m") as remount:
        run(photos, tmp_path / "disk/out")
        before = tree(tmp_path / "disk/out")
        remount("ro")
        for out in (tmp_path / "disk/out", tmp_path / "disk/new"):
            with pytest.raises(StoreError) as caught:
                run(photos, out)
            one_line(caught.value, "read-only file system", out)
        assert tree(tmp_path / "disk/out") == before


def test_permissions_that_go_away(photos: Path, undisturbed: Path) -> None:
    contents = {path.relative_to(photos): path.read_bytes() for path in photos.rglob("*.*")}
    with as_nobody() as folder:
        for name, content in contents.items():
            (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "photos" / name).write_bytes(content)
        out = folder / "out"
        with pytest.raises(StoreError) as caught:
            run(folder / "photos", out, lambda: (out / ".partial").chmod(0o500))
        one_line(caught.value, "permission denied", out)
        assert 0 < check_whole(out) < RESULTS
        (out / ".partial").chmod(0o700)
        (out / "manifest/_job.json").unlink()  # a worker process would be root's, not nobody's
        assert run(folder / "photos", out).skipped > 0
        continued = tree(out)
    assert continued.keys() == tree(undisturbed).keys()


@pytest.mark.parametrize("what", [".", ".partial", "annotations"])
def test_a_folder_that_is_deleted(
    photos: Path, undisturbed: Path, tmp_path: Path, what: str
) -> None:
    out, deleted = tmp_path / "out", threading.Event()

    def delete() -> None:  # in a thread that reads ahead, which the job may leave behind
        while (out / what).exists():
            shutil.rmtree(out / what, ignore_errors=True)
        deleted.set()

    if what == "annotations":  # is made again: its results are missing, and had by the next run
        run(photos, out, delete)
    elif what == ".partial":  # is made again, too; a file that was in it is lost with an error
        with suppress(StoreError):
            run(photos, out, delete)
        assert deleted.wait(60)
    else:
        with pytest.raises(StoreError) as caught:
            run(photos, out, delete)
        one_line(caught.value, "the folder is gone", out)
        assert deleted.wait(60)
        assert out.exists() is (what != ".")
    assert run(photos, out).exit_code == 3
    assert tree(out) == tree(undisturbed)


def test_a_second_job_is_refused(photos: Path, undisturbed: Path, tmp_path: Path) -> None:
    out, refused = tmp_path / "out", []

    def again() -> None:
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="another job is writing here"):
                label(partial(list_inputs, [photos]), out, MAPS, build=build, preview=False,
                      overwrite=overwrite, console=Console(file=io.StringIO()))  # fmt: skip
            refused.append(overwrite)

    assert run(photos, out, again).exit_code == 3
    assert refused == [False, True]
    assert tree(out) == tree(undisturbed)


@needs_mounts
def test_the_lock_of_a_full_disk_holds(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", size="4k"):
        (tmp_path / "disk/full").write_bytes(b"0" * 4096)
        first, second = (Folder(tmp_path / "disk") for _ in range(2))
        with first.locked(), pytest.raises(StoreError, match="another job"), second.locked():
            pass
        with (
            pytest.raises(StoreError, match="no space left"),
            Store(tmp_path / "disk", MAPS).opened(),
        ):
            pass
