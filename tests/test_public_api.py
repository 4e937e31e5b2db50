"""What `from everything import …` offers, with the examples of its docstrings."""

from __future__ import annotations

import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import everything
from everything.api import export_labels, label
from tests.photos import photo

FUNCTIONS = [name for name in everything.__all__ if inspect.isfunction(getattr(everything, name))]
CLASSES = ("Prompts", "Masks", "Segments", "Labels", "EverythingError")
HOME = Path(__file__).parents[1]


def images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("coffee", "chelsea"):
        Image.fromarray(photo(name, 128)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, labels/ and coco/, in which the examples run."""
    folder = tmp_path_factory.mktemp("home")
    images(folder / "photos")
    settings = {"sampler": "grid-16", "pred_iou_thresh": 0.6}
    label(folder / "photos", folder / "labels", **settings)
    export_labels(folder / "labels", "coco", folder / "made/coco")
    return folder


@pytest.mark.parametrize("name", everything.__all__)
def test_names_are_there_and_documented(name: str) -> None:
    assert name in dir(everything)
    found = getattr(everything, name)
    assert name.startswith("__") or inspect.getdoc(found)


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_examples(name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(home / "photos")
    if name != "label":
        (tmp_path / "labels").symlink_to(home / "labels")
    if name == "import_labels":
        (tmp_path / "coco").symlink_to(home / "made/coco")
    found = doctest.DocTestFinder().find(getattr(everything, name), name, globs=vars_of(everything))
    assert sum(len(test.examples) for test in found) > 0, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def vars_of(module: object) -> dict[str, object]:
    return {name: getattr(module, name) for name in everything.__all__} | {"photo": photo}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lable'"):
        everything.lable  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, everything; dir(everything); everything.__version__;"
        "heavy = {'torch', 'numpy', 'pydantic', 'PIL', 'ray'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_user_may_have_files_named_like_our_folders(tmp_path: Path) -> None:
    images(tmp_path / "photos")
    for name in ("samplers.py", "batch_jobs.py", "io.yaml"):
        (tmp_path / name).write_text("raise ImportError('the user has this')\n")
    for name in ("configs", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('and this')\n")
    script = tmp_path / "mine.py"
    script.write_text(
        "from everything import label, load\n"
        "load('nano', 'grid-16')\n"
        "print(label('photos', 'labels', sampler='object-aware').summary.done)\n"
    )
    path = os.pathsep.join(filter(None, [str(HOME), os.getenv("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2"


def test_help_lists_what_there_is() -> None:
    code = "import everything; help(everything)"
    text = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"{name}(" in text for name in FUNCTIONS)
    assert "Segment everything, in bulk" in text
