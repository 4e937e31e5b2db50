"""Writes that are killed between any two of their steps, and the order of these steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from everything.io.results.manifest import Manifest
from everything.io.results.manifest_rows import Row
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from everything.io.storage.output_folder import OutputFolder, listed
from everything.io.storage.ownership import MARKER
from everything.io.storage.storage import free_names
from tests.io.storage.stopped import stopped_at_every_step
from tests.labelled import disc, recipe, row_of, write_labels

OLD, NEW = b"old", b"new" * 50_000  # more than a buffer


def new_content() -> Iterator[bytes]:
    yield from (NEW[:70_000], NEW[70_000:-5], NEW[-5:])  # the end stays in a buffer


def test_a_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    def check(root: Path) -> None:
        folder = Folder(root)
        assert folder.read("a/x.json") in (OLD, NEW)
        folder.clean()
        folder.write("a/x.json", [b"again"])
        assert folder.read("a/x.json") == b"again"
        assert list(folder.names()) == ["a/x.json"]
        assert list((root / ".partial").iterdir()) == []

    kills = stopped_at_every_step(
        tmp_path,
        lambda root: Folder(root).write("a/x.json", [OLD]),
        lambda root: Folder(root).write("a/x.json", new_content()),
        check,
    )
    assert kills >= 5  # at least: the temporary file, fsync, two folders, replace


def test_a_file_is_not_there_before_all_of_it_is_written(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    seen = []

    def content() -> Iterator[bytes]:
        for part in new_content():
            yield part
            seen.append(folder.read("a/x.json"))

    folder.write("a/x.json", content())
    assert seen == [None] * 3
    folder.write("a/x.json", [OLD])
    seen.clear()
    folder.write("a/x.json", content())
    assert seen == [OLD] * 3


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("x", [OLD])

    def content() -> Iterator[bytes]:
        yield NEW
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write("x", content())
    assert folder.read("x") == OLD
    assert list((tmp_path / ".partial").iterdir()) == []


@pytest.mark.parametrize("durable", [True, False])
def test_all_of_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    calls: list[tuple[Any, ...]] = []
    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        status = os.fstat(file)
        calls.append(("fsync", status.st_ino, status.st_size))
        fsync(file)

    def replaced(*arguments: Any, **options: Any) -> None:
        status = os.stat(arguments[0], dir_fd=options["src_dir_fd"])
        calls.append(("replace", status.st_ino, status.st_size))
        replace(*arguments, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    stamp = Folder(tmp_path, durable).write("a/x", new_content())
    number = (tmp_path / "a/x").stat().st_ino
    expected = [("fsync", number, len(NEW)), ("replace", number, len(NEW))]
    assert calls == (expected if durable else expected[1:])
    assert stamp.size == len(NEW)
    assert stamp.mtime_ns == (tmp_path / "a/x").stat().st_mtime_ns


def _row(name: str, **more: Any) -> Row:
    return Row(name, "done", 1, "digest", "here", 1, 1.0, 2.0, **more)


def _names(root: Path) -> list[str]:
    names: list[str] = Manifest(Folder(root)).table()["name"].to_pylist()
    return names


def test_no_row_is_lost_while_rows_are_merged(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        manifest = Manifest(Folder(root))
        Folder(root).create()
        manifest.append(_row("a"))
        manifest.compact()
        failed = _row("c")
        failed.fail("broken")
        manifest.append(_row("b"), failed)

    def check(root: Path) -> None:
        assert _names(root) == ["a", "b", "c"]
        Manifest(Folder(root)).compact()
        assert _names(root) == ["a", "b", "c"]
        assert not (root / "ledger.jsonl").exists()
        assert b'"c"' in (root / "errors.jsonl").read_bytes()

    kills = stopped_at_every_step(
        tmp_path, prepare, lambda root: Manifest(Folder(root)).compact(), check
    )
    assert kills >= 10


def test_a_damaged_manifest_is_never_lost(tmp_path: Path) -> None:
    damaged = b"PAR1 not at all"

    def prepare(root: Path) -> None:
        Folder(root).create()
        Folder(root).write("manifest/part-00000.parquet", [damaged])
        Manifest(Folder(root)).append(_row("a"))

    def check(root: Path) -> None:
        files = (file for file in root.rglob("*") if file.is_file())
        assert damaged in [file.read_bytes() for file in files]
        assert _names(root) == ["a"]

    stopped_at_every_step(tmp_path, prepare, lambda root: Manifest(Folder(root)).compact(), check)


def test_a_removal_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    store = recipe()

    def prepare(root: Path) -> None:
        masks = {name: [disc((9, 9), (4, 4), 3)] for name in ("a.png", "b/c.png")}
        write_labels(root / "out", root / "photos", masks)
        (root / "out/annotations/mine.txt").write_text("mine")
        # Nothing in it says whose it is: the manifest does.
        image = root / "out/annotations/a.png.json"
        image.write_bytes(b"{}")
        writer = Store(root / "out", store)
        row = row_of(writer, root / "photos", "a.png")
        stamp = writer.stamp("a.png")
        assert stamp is not None
        row.bytes, row.mtime_ns = stamp.pair
        manifest = Manifest(writer.folder)
        manifest.append(row)
        manifest.compact()

    def overwrite(root: Path) -> None:
        with Store(root / "out", store).opened(overwrite=True):
            pass

    def check(root: Path) -> None:
        assert (root / "out/annotations/mine.txt").read_text() == "mine"
        overwrite(root)
        left = {name for name in Folder(root / "out").names() if not name.startswith(".")}
        assert left == {"annotations/mine.txt", "recipe.yaml"}

    kills = stopped_at_every_step(tmp_path, prepare, overwrite, check)
    assert kills >= 20


def test_output_of_a_killed_command_is_known_as_its_own(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        folder = OutputFolder(root / "out", "report")
        folder.claim()
        folder.begin()
        for name in ("a", "b/c"):
            folder.write(name, OLD)
        folder.finish()
        (root / "out/mine.txt").write_bytes(b"mine")
        (root / "out/b/c").write_bytes(b"edited")

    def work(root: Path) -> None:
        folder = OutputFolder(root / "out", "report")
        folder.claim("a", "b/c")
        folder.begin()
        for name in ("a", "b/c", "d/e"):
            folder.write(name, NEW)
        folder.finish()

    def check(root: Path) -> None:
        out = root / "out"
        assert OutputFolder(out, "report").is_own()
        assert (out / "mine.txt").read_bytes() == b"mine"
        found = {name: (out / name).read_bytes() for name in Folder(out).names()}
        assert b"edited" in found.values()
        theirs = {"mine.txt", MARKER, "b/c", "set-aside/b/c"}
        assert set(found) - theirs <= listed(out)
        work_again = OutputFolder(out, "report")
        work_again.begin()
        for name in ("a", "b/c", "d/e"):
            work_again.write(name, NEW)
        assert {name: (out / name).read_bytes() for name in ("a", "b/c", "d/e")} == dict.fromkeys(
            ("a", "b/c", "d/e"), NEW
        )
        assert b"edited" in [file.read_bytes() for file in out.rglob("c*") if file.is_file()]

    kills = stopped_at_every_step(tmp_path, prepare, work, check)
    assert kills >= 20


def test_a_file_that_is_set_aside_is_in_one_place_always(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        Folder(root).create()
        for content in (b"first", b"second"):
            Folder(root).write("a/x", [content])
            if content == b"first":
                assert Folder(root).set_aside("a/x") == "set-aside/a/x"

    def check(root: Path) -> None:
        places = [root / "a/x", *(root / name for name in islice(free_names("a/x"), 2))]
        found = [place.read_bytes() for place in places if place.exists()]
        assert sorted(found) == [b"first", b"second"]

    stopped_at_every_step(tmp_path, prepare, lambda root: Folder(root).set_aside("a/x"), check)
