"""Run lengths of many masks at a time are those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from everything.core import rle
from everything.kernels import loader, run_lengths


def masks() -> list[np.ndarray]:
    random = np.random.default_rng(1)
    found = [random.random((37, 53)) < share for share in (0.02, 0.5, 0.98)]
    wide = np.zeros((37, 53), bool)
    wide[:, 3:40] = True  # its columns run into each other: runs of more than five bits
    wide[5:9, 7] = False
    corners = np.zeros((37, 53), bool)
    corners[0, 0] = corners[-1, -1] = True
    return [*found, wide, corners, np.zeros((37, 53), bool), np.ones((37, 53), bool)]


def edges_of(mask: np.ndarray) -> np.ndarray:
    """Where the runs of each column begin and end."""
    columns = np.pad(mask.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    return column * len(mask) + row


@pytest.mark.parametrize("compiled", [True, False])
def test_they_are_those_of_pycocotools(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(loader.kernels, "strings"), "build the kernels: pip install -e '.[dev]'"
    if not compiled:
        monkeypatch.setattr(loader, "kernels", None)
    found = run_lengths.encode([edges_of(mask) for mask in masks()], (37, 53))
    assert found == [rle.encode(mask, (0, 0), (37, 53)) for mask in masks()]
    assert np.array_equal(rle.decode(found, (37, 53)), np.stack(masks()))
    assert run_lengths.encode([], (37, 53)) == []


@pytest.mark.parametrize(
    ("edges", "counts"),
    [([1, 2], [3]), ([1, 2], [1]), ([3, 2], [2]), ([1, 2000], [2]), ([-1, 2], [2]), ([1], [-1, 2])],
)
def test_edges_that_are_none_are_refused(edges: list[int], counts: list[int]) -> None:
    with pytest.raises(ValueError, match="edges must ascend within the image, and add up"):
        run_lengths.encode_flat(np.array(edges), np.array(counts), (37, 53))
