"""Imports go one way, so that every part can be read and changed by itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORDS = ("rows", "view", "prompts", "ops", "rle", "clock", "errors")
FORBIDDEN = {
    # file or folder -> what it must not import
    "samplers": [
        "everything.variants",
        "everything.recipes.resolve",
        "everything.cli.main",
        "batch_jobs",
    ],
    "everything/variants": [
        "samplers",
        "everything.recipes.resolve",
        "everything.pipeline.pipeline",
        "batch_jobs",
    ],
    "everything/embedded": ["samplers", "everything.recipes.resolve", "everything.variants"],
    "everything/decoding": ["samplers", "everything.recipes.resolve", "everything.variants"],
    "everything/pipeline.py": ["samplers", "everything.variants", "everything.recipes.resolve"],
    "everything/scene.py": ["samplers", "everything.variants", "everything.pipeline.pipeline"],
    "everything/select.py": ["samplers", "everything.variants", "everything.pipeline.scene"],
    **{f"everything/{name}.py": ["samplers", "everything.variants"] for name in RECORDS},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("where", [w for w in FORBIDDEN if (ROOT / w).exists()])
def test_imports_go_one_way(where: str):
    place = ROOT / where
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            wrong = [bad for bad in FORBIDDEN[where] if name == bad or name.startswith(bad + ".")]
            assert not wrong, f"{file.relative_to(ROOT)} imports {name}"


def test_samplers_do_not_import_each_other():
    for file in (ROOT / "samplers").glob("*.py"):
        if file.name != "__init__.py":
            others = {name for name in imports(file) if name.startswith("samplers")}
            assert not others, f"{file.name} imports {others}"


def test_ultralytics_is_imported_only_where_it_is_used():
    # AGPL-3.0, and slow to import.
    for file in [*(ROOT / "everything").rglob("*.py"), *(ROOT / "samplers").rglob("*.py")]:
        tree = ast.parse(file.read_text())
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in top if isinstance(n, ast.ImportFrom)}
        assert not any(n.split(".")[0] in ("ultralytics", "transformers") for n in names), file
