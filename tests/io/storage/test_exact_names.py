"""Names that differ in upper and lower case only, where a file system takes both for one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from everything.io.results.writer import Store
from everything.io.storage.exact_names import ignores_case, place
from everything.io.storage.local import Folder
from tests.fakes import RECIPE


@contextmanager
def opened(*folders: Path) -> Iterator[tuple[int, ...]]:
    numbers = tuple(os.open(folder, os.O_RDONLY) for folder in folders)
    yield numbers
    for number in numbers:
        os.close(number)


def test_whether_a_file_system_ignores_case(tmp_path: Path) -> None:
    (tmp_path / ".partial").mkdir()
    assert not ignores_case(tmp_path, ".partial")
    assert not ignores_case(tmp_path / "none", ".partial")
    (tmp_path / ".PARTIAL").symlink_to(tmp_path / ".partial")  # as it looks there
    assert ignores_case(tmp_path, ".partial")


def test_a_folder_there_writes_and_replaces_its_own_files(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    (tmp_path / ".PARTIAL").symlink_to(tmp_path / ".partial")
    for content in (b"1", b"2"):
        folder.write("a/x.json", [content])
        assert folder.read("a/x.json") == content
    assert not list((tmp_path / ".partial").iterdir())


def test_a_file_of_another_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A/x").write_text("first")
    (tmp_path / "new").write_text("second")
    with opened(tmp_path, tmp_path / "A") as (here, there):  # where a is A
        with pytest.raises(FileExistsError, match="upper and lower case only"):
            place("new", "a/x", tmp_path, (here, there))
        assert (tmp_path / "A/x").read_text() == "first"
        place("new", "A/x", tmp_path, (here, there))
    assert (tmp_path / "A/x").read_text() == "second"
    assert not (tmp_path / "new").exists()


def test_the_result_of_another_image_is_neither_taken_nor_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path, RECIPE)
    with store.opened():
        store.put("A.jpg", (4, 5), [], dict)
        (tmp_path / "annotations/A.jpg.json").rename(tmp_path / "annotations/a.jpg.json")
        assert store.get("a.jpg") is None
        store.discard("a.jpg", None)
    about = json.loads((tmp_path / "annotations/a.jpg.json").read_text())["image"]
    assert about["file_name"] == "A.jpg"
