"""`everything doctor` on the machine that runs the tests."""

import json
from importlib.metadata import version

import pytest
import torch
from typer.testing import CliRunner

from everything.benchmark import environment
from everything.cli.main import app

RUNNER = CliRunner()


def test_it_lists_what_is_here() -> None:
    done = RUNNER.invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0
    found = {one["name"]: one["value"] for one in json.loads(done.stdout)}
    assert f"segevery {version('segevery')}" in found["program"]
    assert found["torch"] == version("torch")
    assert torch.hub.get_dir() in found["weights cache"]
    assert ("GPU" in found) != torch.cuda.is_available()


def test_what_is_missing_comes_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "INSTRUCTIONS", ())
    done = RUNNER.invoke(app, ["doctor", "--strict"])
    assert done.exit_code == 1
    assert "install a C++ compiler" in done.stdout


def test_the_benchmark_names_the_programs_version() -> None:
    assert environment.machine()["versions"]["segevery"] == version("segevery")
