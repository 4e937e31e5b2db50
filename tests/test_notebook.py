"""The notebook in the docs runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docs" / "guides" / "notebook.ipynb"


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(FILE, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(FILE, as_version=4)
    client = NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    text = "".join(str(out.get("text", "")) for out in outputs)
    assert "3 done, 0 skipped" in text
    assert "3/3" in text  # the bar of `label`, without ipywidgets
    assert "Warning" not in str(outputs)
    pictures = [out for out in outputs if "<img src" in out.get("data", {}).get("text/html", "")]
    assert len(pictures) == 2
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert (tmp_path / "labels" / "report" / "index.html").is_file()
