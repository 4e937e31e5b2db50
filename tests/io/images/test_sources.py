from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from everything.core.file_names import image_id, is_inside, printable
from everything.errors import ImageError, InputError
from everything.io.images.decode import read_image
from everything.io.images.demo import demo_images
from everything.io.images.sources import list_inputs
from tests.fakes import as_nobody


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*inputs: Path, leave_out: Path | None = None) -> list[str]:
    sources = list(list_inputs(inputs, leave_out))
    assert len({source.name for source in sources}) == len(sources)
    assert all(is_inside(source.name) for source in sources)
    return [source.name for source in sources]


def test_folders_are_walked_in_one_order(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a.PNG", "c/a.jpg", "c/d/a.heic", "a/x.tif", "Z.webp")
    assert names(tmp_path) == ["Z.webp", "a/x.tif", "a.PNG", "b.jpg", "c/a.jpg", "c/d/a.heic"]


def test_only_photos_of_a_folder_but_whatever_file_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "notes.txt", "._a.jpg", ".hidden/a.jpg", "jpg", "film.mp4")
    assert names(tmp_path) == ["a.jpg"]
    assert names(tmp_path / "notes.txt", tmp_path / "._a.jpg") == ["._a.jpg", "notes.txt"]


def test_equal_stems_keep_apart(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "a.png", "x/a.jpg", "y/a.jpg")
    assert names(tmp_path) == ["a.jpg", "a.png", "x/a.jpg", "y/a.jpg"]


def test_several_inputs_are_named_from_what_they_share(tmp_path: Path) -> None:
    make(tmp_path, "x/a.jpg", "y/z/a.jpg", "b.jpg")
    assert names(tmp_path / "x", tmp_path / "y/z") == ["x/a.jpg", "y/z/a.jpg"]
    assert names(tmp_path / "x/a.jpg", tmp_path / "y/z/a.jpg") == ["x/a.jpg", "y/z/a.jpg"]
    assert names(tmp_path / "x", tmp_path / "b.jpg") == ["b.jpg", "x/a.jpg"]
    assert names(tmp_path / "x/a.jpg") == ["a.jpg"]


def test_inputs_that_overlap_give_each_photo_once(tmp_path: Path) -> None:
    make(tmp_path, "x/a.jpg", "b.jpg")
    assert names(tmp_path / "x", tmp_path, tmp_path, tmp_path / "b.jpg") == ["b.jpg", "x/a.jpg"]
    assert names(tmp_path, tmp_path / "x") == ["b.jpg", "x/a.jpg"]


def test_dots_in_inputs_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "x/a.jpg", "y/b.jpg")
    monkeypatch.chdir(tmp_path / "x")
    assert names(Path("../y"), Path()) == ["y/b.jpg", "x/a.jpg"]
    assert names(Path("..")) == ["x/a.jpg", "y/b.jpg"]


def test_the_results_are_not_photos(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "labels/preview/a.png")
    assert names(tmp_path, leave_out=tmp_path / "labels") == ["a.jpg"]
    assert names(tmp_path, leave_out=tmp_path / "new") == ["a.jpg", "labels/preview/a.png"]


def test_links_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "a/x.jpg", "b/y.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "b/a").symlink_to(tmp_path / "a")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "c.jpg")
    assert names(tmp_path) == ["a/x.jpg", "b/y.jpg", "c.jpg"]


def test_linked_folders_and_files_keep_the_link_s_name(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/x.jpg", "photos/a.jpg")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/z.jpg").symlink_to(tmp_path / "elsewhere/x.jpg")
    assert names(tmp_path / "photos") == ["a.jpg", "more/x.jpg", "z.jpg"]
    assert names(tmp_path / "photos/z.jpg") == ["z.jpg"]


def test_a_hundred_folders_that_link_to_each_other(tmp_path: Path) -> None:
    for i in range(30):
        make(tmp_path, f"{i:02}/a.jpg")
        for j in range(30):
            (tmp_path / f"{i:02}" / f"to{j:02}").symlink_to(tmp_path / f"{j:02}")
    assert len(names(tmp_path)) == 30


def test_folders_nested_by_the_thousand(tmp_path: Path) -> None:
    home = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.jpg").touch()
        os.chdir(tmp_path)
        assert names(tmp_path) == ["d/" * 1500 + "a.jpg"]
    finally:
        os.chdir(home)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # shutil and pytest recurse


def test_what_only_looks_like_a_photo_is_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    make(tmp_path, "folder.jpg/inner.jpg")
    assert names(tmp_path) == ["dangling.jpg", "fifo.jpg", "folder.jpg/inner.jpg"]


def test_a_folder_that_cannot_be_listed_is_listed_itself() -> None:
    with as_nobody() as folder:
        make(folder, "a.jpg", "closed/b.jpg")
        (folder / "closed").chmod(0)
        assert names(folder) == ["a.jpg", "closed"]
        with pytest.raises(ImageError, match="permission denied"):
            read_image(folder / "closed")


def test_names_of_all_kinds(tmp_path: Path) -> None:
    kinds = [b"a b.jpg", b"two\nlines.jpg", b"\xff\xfe.jpg", "ümläut.jpg".encode(), b"'\".jpg"]
    for kind in kinds:
        (tmp_path / os.fsdecode(kind)).touch()
    found = names(tmp_path)
    assert sorted(os.fsencode(name) for name in found) == sorted(kinds)
    assert [os.fsencode(name) for name in json.loads(json.dumps(found))] == sorted(kinds)
    assert all("\n" not in printable(name) and printable(name).encode() for name in found)
    assert printable(os.fsdecode(b"\xff")) == r"\xff"


def test_missing_inputs_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: no such file or directory"):
        list_inputs([tmp_path, tmp_path / "nothing"])
    assert names() == []


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a//b", "", "a/", ".", "a\0b"])
def test_names_that_lead_out(name: str) -> None:
    assert not is_inside(name)


def test_image_ids_are_stable_numbers() -> None:
    assert image_id("a/b.jpg") == 2614829446126840
    assert image_id("a.jpg") != image_id("a.png")
    assert 0 <= image_id(os.fsdecode(b"\xff.jpg")) < 2**53


def test_demo_photos_are_real_and_come_without_their_packages() -> None:
    before = set(sys.modules)
    sources = demo_images()
    assert not any(m.startswith(("skimage", "ultralytics")) for m in set(sys.modules) - before)
    assert {"skimage/data/astronaut.png", "ultralytics/assets/bus.jpg"} <= {s.name for s in sources}
    for source in sources:
        assert min(read_image(source.path).pixels.shape[:2]) >= 300
