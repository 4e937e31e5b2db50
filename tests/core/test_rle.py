import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from everything.core import rle

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(masks, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_mask_somewhere_in_an_image_is_coded_as_pycocotools_codes_the_image(
    mask: np.ndarray, left: int, above: int, right: int, below: int
):
    image = np.pad(mask, ((above, below), (left, right)))
    code = rle.encode(mask, (left, above), image.shape)
    expected = coco.encode(np.asfortranarray(image.astype(np.uint8)))
    assert code["counts"].encode() == expected["counts"]
    assert code["size"] == list(image.shape)
    assert (rle.decode([code], image.shape)[0] == image).all()
    assert rle.areas([code]).tolist() == [image.sum()]


@given(masks, st.integers(0, 40), st.integers(0, 40))
def test_a_mask_is_cut_out_of_its_code(mask: np.ndarray, left: int, above: int):
    image = np.pad(mask, ((above, 3), (left, 2)))
    code = rle.encode(mask, (left, above), image.shape)
    found, (x, y) = rle.cut(code)
    again = np.zeros_like(image)
    again[y : y + found.shape[0], x : x + found.shape[1]] = found
    assert (again == image).all()
    if mask.any():
        # Never more than the mask's columns, and its rows unless a run goes on in the next column.
        assert found.any(0)[[0, -1]].all()
    edges = rle.runs(code)
    assert (np.diff(edges, axis=1) > 0).all()
    assert np.diff(edges, axis=1).sum() == image.sum()


@pytest.mark.parametrize("counts", ["", "o", "P", "5", "\x7f", "oooooooooo1", "11"])
def test_text_that_is_no_code_is_refused(counts: str):
    with pytest.raises(ValueError, match=r"run"):
        rle.runs({"size": [3, 4], "counts": counts})


def test_runs_of_a_huge_image():
    code = rle.encode(np.ones((2, 2), bool), (19_998, 19_998), (20_000, 20_000))
    mask, corner = rle.cut(code)
    assert (mask.shape, mask.all(), corner) == ((2, 2), True, (19_998, 19_998))


@pytest.mark.parametrize("fill", [True, False])
def test_full_and_empty_masks_come_back(fill: bool):
    mask = np.full((3, 5), fill)
    assert (rle.decode([rle.encode(mask, (0, 0), (3, 5))], (3, 5))[0] == mask).all()


def test_nothing_to_decode():
    assert rle.decode([], (4, 6)).shape == (0, 4, 6)
    assert rle.areas([]).shape == (0,)
    assert rle.iou([], []).shape == (0, 0)


def test_iou_and_containment():
    half, whole = np.zeros((2, 4), bool), np.ones((2, 4), bool)
    half[:, :2] = True
    a, b = (rle.encode(m, (0, 0), (2, 4)) for m in (half, whole))
    assert rle.iou([a], [b]).item() == 0.5
    assert rle.iou([a], [b], within=True).item() == 1.0
    assert rle.iou([b], [a], within=True).item() == 0.5


def test_areas_of_many_masks():
    code = rle.encode(np.ones((2, 3), bool), (0, 0), (2, 3))
    assert rle.areas([code] * 1000).tolist() == [6] * 1000


def test_codes_are_checked_whichever_block_they_are_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rle, "_TEXT", 20)
    code = rle.encode(np.eye(6, dtype=bool), (0, 0), (6, 6))
    rle.check([])
    rle.check([code] * 9)
    for place in range(9):
        codes = [code] * 9
        codes[place] = {"size": [6, 7], "counts": code["counts"]}
        with pytest.raises(ValueError, match="6"):
            rle.check(codes)


def test_pycocotools_is_imported_in_one_file():
    home = Path(__file__).parents[2]
    found = set()
    for folder in ("everything", "samplers", "configs", "batch_jobs"):
        for file in (home / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                if any(name.split(".")[0] == "pycocotools" for name in names):
                    found.add(file.relative_to(home).as_posix())
    assert found == {"everything/core/rle.py"}


def test_polygons_that_would_take_gigabytes_are_refused():
    size = (65_535, 65_535)
    there_and_back = [[0, 0, 65_535, 65_535] * 40]
    with pytest.raises(ValueError, match=r"polygons of more than 4,000,000 px around"):
        rle.from_polygons(there_and_back, size)
    once = rle.from_polygons([[0, 0, 65_535, 0, 65_535, 65_535]], size)
    assert rle.areas([once]).item() == pytest.approx(65_535**2 / 2, rel=1e-4)
