"""The files of a folder on disk: written whole, found, deleted, set aside, and locked."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from itertools import islice
from pathlib import Path

import pytest

from everything.errors import ImageError, StoreError
from everything.io.storage.local import Folder
from everything.io.storage.storage import Stamp, free_names
from tests.fakes import as_nobody


def test_files_are_written_read_and_deleted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    stamp = folder.write("a/b/x", [b"1", b"23"])
    assert (folder.read("a/b/x"), folder.stamp("a/b/x"), stamp.size) == (b"123", stamp, 3)
    assert (folder.read("a"), folder.read("a/y"), folder.read("a/b/x/y")) == (None, None, None)
    assert folder.read("n" * 300) is None
    assert (folder.stamp("a/y"), folder.stamp("../x")) == (None, None)
    assert list(folder.lines("a/y")) == []
    folder.append("log", b"1\n2\n")
    folder.append("log", b"3\n")
    assert list(folder.lines("log")) == [b"1\n", b"2\n", b"3\n"]
    assert sorted(folder.names()) == ["a/b/x", "log"]
    assert list(folder.names("a")) == ["a/b/x"]
    assert folder.list("a/b", "x") == ["a/b/x"]
    assert folder.list("a/b", "y") == []
    folder.delete("a/b/x")
    folder.delete("a/b/x")
    folder.delete("n" * 300)
    assert folder.read("a/b/x") is None
    assert folder.holds("log")
    assert not folder.holds("a/b")
    assert folder.holds("a")
    assert not folder.holds("c")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("a")
    assert folder.holds("dangling")
    assert folder.holds("link")


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("x", [b""])
    (tmp_path / "y").write_bytes(b"")
    folder.append("z", b"1")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xyz"}
    assert len(modes) == 1


def test_folders_that_are_left_empty_are_deleted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for name in ("a/b/c/x", "a/b/y", "d/z", "e"):
        folder.write(name, [b""])
    (tmp_path / "d/mine").write_bytes(b"")
    folder.remove(["a/b/c/x", "d/z", "e"])
    assert sorted(folder.names()) == ["a/b/y", "d/mine"]
    assert not (tmp_path / "a/b/c").exists()
    folder.remove(["a/b/y"])
    assert not (tmp_path / "a").exists()
    folder.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_must_make_room_is_kept_under_another_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(3):
        folder.write("a/x", [b"%d" % number])
        assert folder.set_aside("a/x") == list(islice(free_names("a/x"), 3))[number]
    assert list(islice(free_names("a/x"), 3)) == [
        "set-aside/a/x", "set-aside/a/x.2", "set-aside/a/x.3",
    ]  # fmt: skip
    assert [folder.read(name) for name in islice(free_names("a/x"), 3)] == [b"0", b"1", b"2"]
    with pytest.raises(StoreError, match="the folder is gone"):
        folder.set_aside("a/x")


def test_only_unfinished_files_of_this_program_are_cleaned(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    partial = tmp_path / ".partial"
    for name in ("here-1-2", "a-b-33-44"):
        (partial / name).write_bytes(b"half")
    folder.refuse_foreign_locks()
    (partial / "mine").write_bytes(b"mine")
    (partial / "folder-1-2").mkdir()
    (partial / "link-1-2").symlink_to("mine")
    folder.clean()
    assert sorted(path.name for path in partial.iterdir()) == ["folder-1-2", "link-1-2", "mine"]
    with pytest.raises(StoreError, match="that this program did not write"):
        folder.refuse_foreign_locks()


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        (b"", True),
        (b"process 7 on here\n", True),
        (b"process 7 on here", True),
        (b"process x on here\n", False),
        (b"process 7 on here\nmore\n", False),
        (b"process 7 on " + b"x" * (1024 - 13), True),
        (b"process 7 on " + b"x" * (1024 - 12), False),
    ],
)
def test_a_lock_of_others_is_left(tmp_path: Path, content: bytes, is_ours: bool) -> None:
    folder = Folder(tmp_path)
    folder.refuse_foreign_locks()
    (tmp_path / ".lock").write_bytes(content)
    if is_ours:
        folder.refuse_foreign_locks()
    else:
        with pytest.raises(StoreError, match=r"\.lock or \.partial that this program did not"):
            folder.refuse_foreign_locks()
    assert (tmp_path / ".lock").read_bytes() == content


def test_a_lock_that_is_a_folder_or_a_link_is_left(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StoreError, match="did not write"):
        Folder(tmp_path).refuse_foreign_locks()
    (tmp_path / ".lock").rmdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".lock").symlink_to("mine")
    for refused in (Folder(tmp_path).refuse_foreign_locks, Folder(tmp_path).locked().__enter__):
        with pytest.raises(StoreError, match=r"\.lock: a link"):
            refused()
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_the_lock_names_its_holder_and_is_released(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / ".lock").write_bytes(b"process 123456789 on a host with a very long name\n")
    with folder.locked():
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        assert (tmp_path / ".lock").read_text() == f"{holder}\n"
        with (
            pytest.raises(StoreError, match=f"another job is writing here .{holder}."),
            Folder(tmp_path).locked(),
        ):
            pass
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_holds_where_a_file_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Folder(tmp_path).locked():
        assert (tmp_path / ".lock").exists()
    assert "cannot be locked (function not implemented)" in caplog.text


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "", "a\0b"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path / "out")
    folder.create()
    for call in (folder.path, folder.read, folder.delete, folder.set_aside, folder.holds):
        with pytest.raises(StoreError, match="outside of"):
            call(name)
    for written in (folder.write, folder.append):
        with pytest.raises(StoreError, match="outside of"):
            written(name, b"")  # type: ignore[operator]


def test_what_is_about_one_name_costs_one_image(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("file", [b""])
    folder.write("folder/x", [b""])
    (tmp_path / "link").symlink_to("folder")
    for name in ("n" * 300, "file/x", "folder"):
        with pytest.raises(ImageError, match=r"no file of this name can be written .*: rename"):
            folder.write(name, [b""])
    with pytest.raises(ImageError, match=r"link/y: not written through a link: replace .*link by"):
        folder.write("link/y", [b""])
    assert sorted(folder.names()) == ["file", "folder/x", "link"] or sorted(folder.names()) == [
        "file", "folder/x",
    ]  # fmt: skip
    assert list((tmp_path / ".partial").iterdir()) == []


def test_places_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file: not a directory"):
        Folder(tmp_path / "file").create()
    with pytest.raises(StoreError, match=r"cannot be used \(the folder is gone\)"):
        Folder(tmp_path / "none").write("x", [b""])
    with pytest.raises(StoreError, match=r"cannot be used \(the folder is gone\)"):
        Folder(tmp_path / "none").append("x", b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.partial").symlink_to(tmp_path)
    with pytest.raises(StoreError, match=r"\.partial: a link"):
        Folder(tmp_path / "out").create()
    assert Folder(tmp_path).holds("file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="cannot be used"):
        Folder(tmp_path).append("pipe", b"x")


def test_temporary_names_are_different(tmp_path: Path) -> None:
    folder, seen = Folder(tmp_path), []
    for _ in range(2):
        folder.write("x", (seen.append(os.listdir(tmp_path / ".partial")) or b"" for _ in "1"))  # type: ignore[func-returns-value]  # noqa: PTH208
    assert [len(names) for names in seen] == [1, 1]
    assert seen[0] != seen[1]


def test_stamps_are_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12")
    os.utime(tmp_path / "x", ns=(5, 7))
    assert Folder(tmp_path).stamp("x") == Stamp(2, 7)
    assert Stamp(2, 7).pair == (2, 7)


def test_without_permission_nothing_is_taken_for_missing() -> None:
    with as_nobody() as home:
        folder = Folder(home)
        folder.write("a/x", [b"1"])
        (home / "a/x").chmod(0)
        for call in (folder.read, lambda name: list(folder.lines(name))):
            with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
                call("a/x")
        (home / "a").chmod(0o500)
        for change in (folder.delete, folder.set_aside, lambda name: folder.append(name, b"")):
            with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
                change("a/x")
        (home / "a").chmod(0)
        with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
            folder.holds("a")
        with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
            Folder(home / "a/b").create()
        (home / "a").chmod(0o700)
        (home / ".lock").write_bytes(b"")
        (home / ".lock").chmod(0)
        with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
            folder.locked().__enter__()
        with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
            folder.refuse_foreign_locks()
        (home / ".partial").chmod(0)
        with pytest.raises(StoreError, match=r"cannot be used \(permission denied\)"):
            folder.clean()
        (home / ".partial").chmod(0o700)
