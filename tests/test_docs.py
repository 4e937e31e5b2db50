"""What the documents say can be followed: links, pictures, commands and options exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from everything.cli.main import app
from everything.export import EXPORTERS
from everything.recipes.catalogue import samplers, variants

ROOT = Path(__file__).parent.parent
DOCS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "NOTICE")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
        found.add(re.sub(r"\s", "-", words.strip()))
    return found


def without_comment(line: str) -> str:
    return re.sub(r"\s#\s?.*$", "", line)


def command_lines(text: str) -> Iterator[str]:
    """Every `everything …` line of code blocks and of code within a sentence."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```[a-z]*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|&& )((?:everything|segevery) .*)$", without_comment(line))
            if found:
                yield found[1]
    for code in re.findall(r"`([^`]+)`", prose):
        line = " ".join(code.split())
        if line.startswith(("everything ", "segevery ")):
            yield line


COMMANDS = sorted(
    {(named(file), line) for file in DOCS for line in command_lines(file.read_text("utf-8"))}
)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words behind it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no such command: {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("file", DOCS, ids=named)
def test_links_and_pictures_resolve(file: Path) -> None:
    for target in LINK.findall(file.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_pages_of_the_site_link_to_the_site_alone() -> None:
    """What lies outside docs/ is not on the site; the strict build would fail."""
    for file in sorted((ROOT / "docs").rglob("*.md")):
        for target in LINK.findall(file.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("#"):
                assert (file.parent / target).resolve().is_relative_to(ROOT / "docs"), target


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 50


@pytest.mark.parametrize(("file", "line"), COMMANDS)
def test_commands_and_options_exist(file: str, line: str) -> None:
    command, words = command_of(shlex.split(line)[1:])
    options = {
        name
        for parameter in command.params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in {*options, "--help", "--ray-address"}, f"{file}: {word}"


@pytest.mark.parametrize(("file", "line"), COMMANDS)
def test_names_of_variants_samplers_and_formats_exist(file: str, line: str) -> None:
    known = {
        "--variant": {each["name"] for each in variants()},
        "--to": set(EXPORTERS),
        "--sampler": {each["name"] for each in samplers()},
    }
    words = shlex.split(line)
    for option, value in pairwise(words):
        if option in known and not value.isupper():
            for name in value.split("+") if option == "--sampler" else [value]:
                is_hub_model = option == "--variant" and name.startswith("hf:")
                assert is_hub_model or name in known[option], f"{file}: {option} {value}"


@pytest.mark.parametrize("file", DOCS, ids=named)
def test_nobody_is_told_to_install_another_project(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"pip install [^\n`]*['\" ]everything\b(?![./])(?! label)", text)
    assert "everything[" not in text


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")}
    listed = set(re.findall(r"[\w/-]+\.md", yaml.dump(yaml.safe_load(text)["nav"])))
    assert listed == pages


def test_renamed_modules_are_where_the_table_says() -> None:
    text = (ROOT / "docs" / "renamed-modules.md").read_text(encoding="utf-8")
    for module in re.findall(r"\| `[\w.]+` \| `([\w.]+)` \|", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module


def test_the_readme_says_what_the_gate_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install . && everything label --demo --out labels" in readme
    assert "pip install -c constraints.txt -e '.[dev,docs]' && pytest" in readme
