"""Folders of reports and exports: only a command's own files are replaced or deleted."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from everything.errors import StoreError
from everything.io.storage.no_links import open_regular, opened_folder, opened_parent
from everything.io.storage.output_folder import OutputFolder, listed
from everything.io.storage.ownership import (
    FORMAT,
    MARKER,
    fingerprint,
    header,
    kind_of,
    parsed,
    source_hash,
)


def made(root: Path, **files: bytes) -> OutputFolder:
    folder = OutputFolder(root, "report")
    folder.claim()
    folder.begin()
    for name, content in files.items():
        folder.write(name, content)
    folder.finish()
    return folder


def test_a_marker_says_what_a_folder_is() -> None:
    assert kind_of(header("report"), "x") == "report"
    assert kind_of(header("export") + b'{"name": "a"}\n', "x") == "export"
    about = {"program": "everything", "kind": "report", "format": FORMAT}
    for changed in ({"program": "other"}, {"kind": "other"}, {"format": "1"}, {"format": None}):
        assert kind_of(json.dumps(about | changed).encode(), "x") is None
    for content in (None, b"", b"[]", b"7", b"\xff", b"[" * 100_000, b"\n" + header("report")):
        assert kind_of(content, "x") is None
    with pytest.raises(StoreError, match=r"out: written by a newer version of this program"):
        kind_of(json.dumps(about | {"format": FORMAT + 1}).encode(), "out")
    assert parsed(b'{"a": 1}') == {"a": 1}


def test_hashes_tell_contents_apart() -> None:
    assert fingerprint(b"a") != fingerprint(b"b")
    assert len(fingerprint(b"")) == 16
    assert source_hash(b"a") == int.from_bytes(bytes.fromhex(fingerprint(b"a")), signed=True)
    assert min(map(source_hash, (bytes([n]) for n in range(20)))) < 0


def test_what_a_folder_is_before_and_after(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out", "report")
    assert (folder.is_empty(), folder.is_own()) == (True, False)
    (tmp_path / "out").mkdir()
    assert folder.is_empty()
    made(tmp_path / "out", a=b"1")
    assert (folder.is_empty(), folder.is_own()) == (False, True)
    assert not OutputFolder(tmp_path / "out", "export").is_own()
    (tmp_path / "file").write_bytes(b"")
    assert not OutputFolder(tmp_path / "file", "report").is_empty()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert not OutputFolder(tmp_path / "dangling", "report").is_empty()
    assert not (tmp_path / "out/.partial").exists()
    assert sorted(folder.names()) == [MARKER, "a"]


def test_files_of_others_are_refused_and_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(b"theirs")
    folder = OutputFolder(out, "report")
    with pytest.raises(StoreError, match=r"out/a: not written by this command"):
        folder.claim("b", "a")
    assert [path.name for path in out.iterdir()] == ["a"]
    folder.claim("b")
    assert folder.is_own()
    with pytest.raises(StoreError, match=r"out/a: not written by this command"):
        folder.claim("a")
    (out / MARKER).write_bytes(b"a list of everything\n")
    with pytest.raises(StoreError, match=r"out/\.everything\.jsonl: not written by this command"):
        OutputFolder(out, "report").claim()
    (out / MARKER).unlink()
    (out / ".lock").write_bytes(b"of another program")
    with pytest.raises(StoreError, match=r"\.lock or \.partial that this program did not write"):
        OutputFolder(out, "report").claim()


def test_files_of_another_command_are_not_its_own(tmp_path: Path) -> None:
    made(tmp_path, a=b"1")
    OutputFolder(tmp_path, "report").claim("a")
    with pytest.raises(StoreError, match=r"a: not written by this command"):
        OutputFolder(tmp_path, "export").claim("a")
    OutputFolder(tmp_path, "export").claim("b")
    assert kind_of((tmp_path / MARKER).read_bytes(), tmp_path) == "report"


@pytest.mark.parametrize("name", [MARKER, "a", ".partial"])
def test_links_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="a link"):
        OutputFolder(tmp_path / "out", "report").claim("a")
    folder = OutputFolder(tmp_path / "out", "report")
    with pytest.raises(StoreError, match="a link"):
        folder.refuse_links("b", name)
    folder.refuse_links("b")
    if name == MARKER:
        with pytest.raises(StoreError, match="a link"):
            folder.is_own()
    assert list((tmp_path / "target").iterdir()) == []


def test_begin_deletes_what_was_written_and_keeps_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path, a=b"1", b=b"2", c=b"3")
    made(tmp_path, a=b"1", b=b"2", c=b"3")
    assert "were kept" not in caplog.text
    (tmp_path / "b").write_bytes(b"edited")
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "old").write_bytes(b"of an earlier version")
    folder = OutputFolder(tmp_path, "report")
    with caplog.at_level(logging.WARNING):
        folder.begin(["old"])
    assert sorted(folder.names()) == [MARKER, "b", "mine"]
    assert "2 files that this command did not write were kept, such as" in caplog.text
    assert listed(tmp_path) == set()
    folder.write("b", b"new")
    assert (tmp_path / "set-aside/b").read_bytes() == b"edited"
    assert (tmp_path / "b").read_bytes() == b"new"
    assert "set aside as set-aside/b" in caplog.text
    folder.write("b", b"newer")
    assert (tmp_path / "b").read_bytes() == b"newer"
    assert not (tmp_path / "set-aside/b.2").exists()
    assert listed(tmp_path) == {"b"}


def test_files_and_links_are_moved_in(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    folder = made(tmp_path / "out")
    (tmp_path / "new/a").write_bytes(b"1")
    (tmp_path / "new/l").symlink_to("somewhere")
    folder.move_in(tmp_path / "new/a", "d/a")
    folder.move_in(tmp_path / "new/l", "l")
    assert (tmp_path / "out/d/a").read_bytes() == b"1"
    assert list((tmp_path / "new").iterdir()) == []
    assert listed(tmp_path / "out") == {"d/a", "l"}
    OutputFolder(tmp_path / "out", "report").begin()
    assert OutputFolder(tmp_path / "out", "report").names() == [MARKER]


def test_a_link_that_was_turned_is_kept(tmp_path: Path) -> None:
    folder = made(tmp_path / "out")
    (tmp_path / "l").symlink_to("somewhere")
    folder.move_in(tmp_path / "l", "l")
    (tmp_path / "out/l").unlink()
    (tmp_path / "out/l").symlink_to("elsewhere")
    OutputFolder(tmp_path / "out", "report").begin()
    assert (tmp_path / "out/l").readlink() == Path("elsewhere")


def test_files_that_are_there_can_be_listed(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    folder.list(["a", "b"])
    (tmp_path / "b").write_bytes(b"edited")
    assert listed(tmp_path) == {"a", "b"}
    OutputFolder(tmp_path, "report").begin()
    assert sorted(folder.names()) == [MARKER, "b"]


def test_folders_are_opened_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with opened_folder(tmp_path / "link") as root:  # the user named it
        assert os.fstat(root).st_ino == (tmp_path / "a").stat().st_ino
    for create in (False, True):
        with (
            pytest.raises(OSError, match="Not a directory"),
            opened_folder(tmp_path, "link/b", create),
        ):
            pass
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(FileNotFoundError), opened_folder(tmp_path, "a/b"):
        pass
    with opened_folder(tmp_path, "a/b/c", create=True) as made_folder:
        assert os.fstat(made_folder).st_ino == (tmp_path / "a/b/c").stat().st_ino
    with opened_parent(tmp_path, "a/b/x") as (at, last):
        assert (os.fstat(at).st_ino, last) == ((tmp_path / "a/b").stat().st_ino, "x")
    with opened_parent(tmp_path, "x") as (at, last):
        assert (os.fstat(at).st_ino, last) == (tmp_path.stat().st_ino, "x")
    with pytest.raises(FileNotFoundError), opened_parent(tmp_path, "z/x"):
        pass


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_descriptors_of_folders_are_closed(tmp_path: Path) -> None:
    before = _open_files()
    with opened_folder(tmp_path, "a/b/c", create=True):
        assert _open_files() == before + 1
    with pytest.raises(FileNotFoundError), opened_folder(tmp_path, "a/x/y"):
        pass
    (tmp_path / "a/f").write_bytes(b"")
    os.close(open_regular(tmp_path, "a/f", os.O_RDONLY))
    os.mkfifo(tmp_path / "a/pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path, "a/pipe", os.O_RDONLY)
    (tmp_path / "a/link").symlink_to("f")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path, "a/link", os.O_RDONLY)
    assert _open_files() == before
