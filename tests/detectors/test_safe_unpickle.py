"""Pickled networks give their tensors and run nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from everything.detectors.safe_unpickle import read_network
from everything.errors import WeightsError


class Custom(nn.Module):
    """A class that only this file has."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("unsaved", torch.zeros(1), persistent=False)


class Trap:
    """Runs a command wherever it is unpickled by the usual means."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (self.command,)


class SystemTrap(Trap):
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_tensors_are_those_of_the_state_dict(tmp_path: Path):
    network = Custom()
    torch.save({"ema": None, "model": network, "args": {"a": 1}}, tmp_path / "a.pt")
    state = read_network(tmp_path / "a.pt")
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_the_average_is_preferred_and_halves_become_floats(tmp_path: Path):
    network, average = Custom(), Custom()
    torch.save({"ema": average.half(), "model": network}, tmp_path / "a.pt")
    state = read_network(tmp_path / "a.pt")
    assert state["scale"].dtype == torch.float32
    assert torch.equal(state["inner.0.weight"], average.inner[0].weight.float())


def test_nothing_in_a_pickle_is_run(tmp_path: Path):
    trace, file = tmp_path / "trace", tmp_path / "a.pt"
    command = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    torch.save({"model": Custom(), "args": Trap(command)}, file)
    torch.load(file, weights_only=False)
    assert trace.exists()  # the trap does work
    trace.unlink()
    assert "scale" in read_network(file)
    assert not trace.exists()


def test_the_operating_system_is_refused(tmp_path: Path):
    trace, file = tmp_path / "trace", tmp_path / "a.pt"
    torch.save({"model": Custom(), "args": SystemTrap(f"touch {trace}")}, file)
    with pytest.raises(WeightsError, match=r"a\.pt"):
        read_network(file)
    assert not trace.exists()


@pytest.mark.parametrize("content", [{"model": {"a": torch.ones(1)}}, {}, [1], {"ema": None}])
def test_a_file_without_a_network_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="contains no network"):
        read_network(tmp_path / "a.pt")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "a.pt").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_network(tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_network(tmp_path / "absent.pt")
