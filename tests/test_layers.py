"""Imports go one way, so that every part can be read and changed by itself."""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

HOME = Path(__file__).parent.parent / "everything"
# A folder may import from those above it. `everything/__init__.py` and `__main__.py`, the two
# entrances, import from anywhere and nothing imports them.
FLOORS = (
    "errors",
    "config",
    "core",
    "masks",
    "kernels",
    "io.storage",
    "io.images",
    "io.results",
    "io.datasets",
    "decoding",
    "pipeline",
    "bundled",
    "variants",
    "detectors",
    "samplers",
    "configs",
    "recipes",
    "export",
    "report",
    "evaluation",
    "training",
    "jobs",
    "benchmark",
    "api",
    "cli",
    "batch_jobs",
)
MOST_FILES, MOST_MODULES = 5, 22


def modules() -> Iterator[tuple[str, Path]]:
    """Every module's name and file; links are followed, as imports do."""
    for folder, _, names in os.walk(HOME, followlinks=True):
        for name in names:
            if name.endswith(".py"):
                file = Path(folder) / name
                parts = file.relative_to(HOME.parent).with_suffix("").parts
                yield ".".join(parts).removesuffix(".__init__"), file


@cache
def graph() -> nx.DiGraph:
    """Who imports whom inside the program, imports for type checking included."""
    files = dict(modules())
    found = nx.DiGraph()
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                target = name if name in files else name.rpartition(".")[0]
                if target in files and target != module:
                    found.add_edge(module, target)
    return found


def floor(module: str) -> str:
    """The folder, or the file of the top, that a module belongs to."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[0] == "io" else parts[0]


def inner_edges() -> list[tuple[str, str]]:
    entrances = ("everything", "everything.__main__")
    return [(a, b) for a, b in graph().edges if a not in entrances]


def test_folders_import_only_what_is_above_them() -> None:
    assert len(inner_edges()) > 500
    order = {name: number for number, name in enumerate(FLOORS)}
    wrong = [f"{a} imports {b}" for a, b in inner_edges() if order[floor(b)] > order[floor(a)]]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    inner = nx.DiGraph(inner_edges())
    assert [sorted(c) for c in nx.strongly_connected_components(inner) if len(c) > 1] == []


def test_folders_stay_small_enough_to_be_read() -> None:
    assert len(list(HOME.glob("*.py"))) <= MOST_FILES
    for folder, _, _ in os.walk(HOME, followlinks=True):
        assert len(list(Path(folder).glob("*.py"))) <= MOST_MODULES, folder


@pytest.mark.parametrize("package", ["ultralytics", "transformers"])
def test_heavy_packages_are_imported_only_where_they_are_used(package: str) -> None:
    # ultralytics is AGPL-3.0, and both are slow to import.
    for module, file in modules():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.split(".")[0] == package for name in names), module
