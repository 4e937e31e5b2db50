"""What is imported is declared, what is declared is used, bounded and justified."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FILE = ROOT / "pyproject.toml"
PROJECT = tomllib.loads(FILE.read_text(encoding="utf-8"))["project"]
PACKAGES = ("everything", "samplers", "batch_jobs", "configs")
EXTRAS = ("s3", "quantize", "convert", "train")
# Nobody imports them by name: fsspec loads them when it meets their URLs, tifffile to decompress.
LOADED_BY_OTHERS = {"aiohttp", "s3fs", "imagecodecs"}
# Triton comes with torch's wheels for GPUs; without it, PyTorch's operations are used.
COME_ALONG = {"triton"}
# Commands, plugins, and what a test looks for by its name.
TOOLS = {
    "ipykernel",
    "mypy",
    "ruff",
    "pytest-timeout",
    "pytest-xdist",
    "types-pyyaml",
    "segevery",
    "playwright",
}


def declared(*extras: str) -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {canonicalize_name((one := Requirement(line)).name): one for line in lines}


def imported(*folders: str) -> dict[str, str]:
    """The distribution of every import below the folders, and a file that has it.

    What is not installed is taken to be a distribution of the same name.
    """
    owners, found = packages_distributions(), {}
    for file in sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in (
                    *PACKAGES,
                    "tests",
                    "_typeshed",
                ):
                    for owner in owners.get(top, [top]):
                        found[canonicalize_name(owner)] = str(file.relative_to(ROOT))
    return found


def test_every_import_is_declared() -> None:
    known = {*declared(*EXTRAS), *COME_ALONG}
    assert {name: file for name, file in imported(*PACKAGES).items() if name not in known} == {}


def test_every_import_of_the_tests_is_declared() -> None:
    known = {*declared(*PROJECT["optional-dependencies"]), *COME_ALONG}
    assert {name: file for name, file in imported("tests").items() if name not in known} == {}


def test_every_dependency_is_used() -> None:
    unused = set(declared(*EXTRAS)) - set(imported(*PACKAGES)) - LOADED_BY_OTHERS
    assert unused == set()
    tools = set(declared("dev")) - set(imported(*PACKAGES, "tests")) - LOADED_BY_OTHERS
    assert tools <= TOOLS


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_dependency_has_both_bounds(extra: str | None) -> None:
    for name, one in declared(*([extra] if extra else [])).items():
        operators = {specifier.operator for specifier in one.specifier}
        assert name == "segevery" or (">=" in operators and "<" in operators), name


def test_every_dependency_says_in_a_line_why() -> None:
    section = FILE.read_text(encoding="utf-8").split("\ndependencies = [")[1].split("\n]")[0]
    for line in section.strip().splitlines():
        assert re.search(r'",\s+# \S', line), line
