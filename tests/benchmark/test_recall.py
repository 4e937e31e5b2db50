"""Recall of cases equals evaluate's of the same masks."""

from pathlib import Path

import numpy as np
import pytest

from everything.benchmark.recall import ground_truth_of, recall_of
from everything.benchmark.types import Key
from everything.errors import InputError
from everything.evaluation.mask_scores import evaluate
from tests.labelled import disc, records, write_labels

SIZE = (60, 80)
GOOD, POOR = Key("a", "grid-32"), Key("b", "grid-32")


def test_as_evaluate_scores_it(tmp_path: Path):
    truth = {"x.png": [disc(SIZE, (30, 30), 20), disc(SIZE, (60, 20), 9)],
             "y.png": [disc(SIZE, (40, 30), 15)]}  # fmt: skip
    found = {"x.png": [disc(SIZE, (32, 30), 19), disc(SIZE, (60, 20), 9)],
             "y.png": [disc(SIZE, (48, 30), 15), np.ones(SIZE, bool)]}  # fmt: skip
    write_labels(tmp_path / "truth", tmp_path / "p", truth)
    write_labels(tmp_path / "found", tmp_path / "p", found)
    marked = ground_truth_of(tmp_path / "truth", None, ["y.png", "x.png"])
    masks = {(GOOD, name): [r["segmentation"] for r in records(one)] for name, one in found.items()}
    recall = recall_of(marked, masks | {(POOR, "x.png"): []})
    expected = evaluate(tmp_path / "found", tmp_path / "truth", boundaries=False).ar["1000"]
    assert recall == {GOOD: expected}
    assert 0 < expected < 1
    nothing = recall_of(marked, {(POOR, "x.png"): [], (POOR, "y.png"): []})
    assert nothing == {POOR: 0.0}


def test_photos_without_truth_are_one_line(tmp_path: Path):
    write_labels(tmp_path / "truth", tmp_path / "p", {"x.png": [disc(SIZE, (30, 30), 20)]})
    with pytest.raises(InputError, match=r"has no ground truth for 1 of the images \(z\.png\)"):
        ground_truth_of(tmp_path / "truth", None, ["x.png", "z.png"])
