"""Files of others in the folder of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from everything.errors import EverythingError
from everything.io.storage.output_folder import OutputFolder
from everything.io.storage.ownership import MARKER
from everything.training.output_folder import check_output, write_card, write_files

RESULTS = ("x.safetensors", "x.md")
STATE = dict.fromkeys(("net", "mean", "optimisers", "random", "steps", "seconds"), 1)
FLAGS = [{}, {"overwrite": True}, {"resume": True}]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", ["state.pt", "weights.safetensors", "x.safetensors"])
def test_a_file_of_others_is_never_replaced(
    tmp_path: Path, name: str, flags: dict[str, bool]
) -> None:
    torch.save({"epoch": 3}, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(EverythingError, match=r"another --out|no training to resume"):
        check_output(tmp_path, RESULTS, **flags)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {name: before}


@pytest.mark.parametrize("flags", FLAGS[1:])
def test_a_model_card_of_others_is_kept(tmp_path: Path, flags: dict[str, bool]) -> None:
    torch.save(STATE, tmp_path / "state.pt")  # of a version without markers
    (tmp_path / "README.md").write_text("mine")
    check_output(tmp_path, ("README.md",), **flags)
    for text in ("one", "two"):
        assert write_card(tmp_path, "README.md", text).read_text() == text
    assert (tmp_path / "README.md").read_text() == "mine"


def test_the_folder_of_another_command_is_refused(tmp_path: Path) -> None:
    OutputFolder(tmp_path, "benchmark").claim()
    with pytest.raises(EverythingError, match="of another command"):
        check_output(tmp_path, RESULTS)


def test_own_files_are_listed_and_replaced_when_asked(tmp_path: Path) -> None:
    check_output(tmp_path / "out", RESULTS)
    write_files(tmp_path / "out", {"x.safetensors": b"1"})
    with pytest.raises(EverythingError, match="would be replaced"):
        check_output(tmp_path / "out", RESULTS)
    check_output(tmp_path / "out", RESULTS, overwrite=True)
    write_files(tmp_path / "out", {"x.safetensors": b"2"})
    assert (tmp_path / "out/x.safetensors").read_bytes() == b"2"
    about = json.loads((tmp_path / "out" / MARKER).read_text().splitlines()[0])
    assert about["kind"] == "training"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [MARKER, "x.safetensors"]


def test_links_are_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/state.pt").symlink_to(tmp_path / "theirs")
    with pytest.raises(EverythingError, match=r"a link|another --out"):
        check_output(tmp_path / "out", RESULTS, overwrite=True)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
