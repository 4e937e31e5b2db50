"""Files of others in a benchmark's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from everything.benchmark.output.report_files import NAMES, claim
from everything.errors import StoreError
from everything.io.storage.output_folder import OutputFolder


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_others_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(StoreError, match=rf"{name}: not written by this command.*another --out"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_own_files_are_replaced_and_edited_ones_set_aside(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    for round_ in (b"1", b"2"):
        output = OutputFolder(tmp_path, "benchmark")
        output.claim("bench.md", "bench.csv")
        output.write("bench.csv", round_)
        output.write("bench.md", round_)
        output.finish()
        if round_ == b"1":
            (tmp_path / "bench.md").write_bytes(b"edited")
    assert (tmp_path / "bench.csv").read_bytes() == b"2"
    assert (tmp_path / "bench.md").read_bytes() == b"2"
    assert (tmp_path / "set-aside/bench.md").read_bytes() == b"edited"
    assert not (tmp_path / "set-aside/bench.csv").exists()
    assert (tmp_path / "mine.txt").read_bytes() == b"mine"
    assert not (tmp_path / ".partial").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/bench.json").symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="a link"):
        claim(tmp_path / "out")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
