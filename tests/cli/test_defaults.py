"""Options from the environment and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from everything.cli.main import app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
    """Return what was printed to stdout and stderr."""
    result = CliRunner().invoke(app, list(arguments), env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def chosen(*arguments: str, **environment: str) -> tuple[dict[str, object], str]:
    """The settings by `everything settings`, and what was said about where they come from."""
    text, said = run("settings", "--json", *arguments, **environment)
    return {one["name"]: one["value"] for one in json.loads(text)}, said


def test_a_flag_wins_over_the_environment_and_that_over_the_file(here: Path) -> None:
    (here / "everything.yaml").write_text("settings:\n  set: [nms.box_nms_thresh=0.1]\n")
    variable = {"EVERYTHING_SETTINGS_SET": "nms.box_nms_thresh=0.2"}
    values, said = chosen()
    assert values["nms.box_nms_thresh"] == 0.1
    assert "set = ['nms.box_nms_thresh=0.1'] (everything.yaml)" in said
    values, said = chosen(**variable)
    assert values["nms.box_nms_thresh"] == 0.2
    assert said.count("(") == 1
    assert "(EVERYTHING_SETTINGS_SET)" in said
    values, said = chosen("--set", "nms.box_nms_thresh=0.3", **variable)
    assert (values["nms.box_nms_thresh"], said) == (0.3, "")


def test_pyproject(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert chosen()[1] == ""
    (here / "pyproject.toml").write_text("[tool.everything.settings]\nsampler = 'grid-16'\n")
    values, said = chosen()
    assert values["sampler.points_per_side"] == 16
    assert said.strip().endswith("sampler = grid-16 (pyproject.toml)")


def test_a_file_beside_the_images_comes_first(here: Path) -> None:
    (here / "images").mkdir()
    (here / "everything.yaml").write_text("label: {sampler: grid-16}\n")
    (here / "images/everything.yaml").write_text("label: {sampler: no-such}\n")
    _, said = run("label", "images", "--out", "out", code=2)
    assert "sampler = no-such (images/everything.yaml)" in said
    assert "sampler 'no-such' is not known" in said
    for name in ("out", "checkpoint", "overwrite"):
        (here / "images/everything.yaml").write_text(f"label: {{{name}: true}}\n")
        _, said = run("label", "images", "--out", "out", code=2)
        assert f"label.{name}: not taken from a file beside images" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labl: {}", "labl: no such command; did you mean label?"),
        ("settings: {sampel: x}", "settings.sampel: no such option; did you mean sampler?"),
        ("settings: {variant: [a, b]}", "settings.variant: give a single value"),
        ("settings: {json: perhaps}", "settings.json = perhaps: "),
        ("settings: 3", "settings: give options"),
        ("[1]", "give a section for each command"),
        ("a: [", "not a readable YAML file"),
    ],
)
def test_mistakes_name_file_and_key(here: Path, text: str, message: str) -> None:
    (here / "everything.yaml").write_text(text)
    _, said = run("settings", code=2)
    assert "everything.yaml: " in said
    assert message in said
    assert said.count("\n") == 1


def test_an_unknown_variable_is_refused() -> None:
    _, said = run("settings", code=2, EVERYTHING_SETTINGS_VARIENT="nano")
    assert "EVERYTHING_SETTINGS_VARIENT: no such option; did you mean" in said
