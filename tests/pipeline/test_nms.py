import numpy as np
import pytest
import torch

from everything.core import rle
from everything.core.prompts import Prompts
from everything.masks.segments import Segments
from everything.pipeline.nms import KINDS, suppress


def segments(masks: list[np.ndarray], scores: list[float]) -> Segments:
    height, width = masks[0].shape
    boxes = [(x.min(), y.min(), x.max(), y.max()) for y, x in (m.nonzero() for m in masks)]
    n = len(masks)
    return Segments(
        [rle.encode(m, (0, 0), (height, width)) for m in masks],
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.tensor(scores),
        torch.ones(n),
        torch.zeros(n, dtype=torch.int64),
        Prompts.clicks(torch.arange(n)[:, None].expand(n, 2)),
        torch.zeros(n, 4, dtype=torch.int64),
    )


def diagonals() -> list[np.ndarray]:
    """Two triangles that share a box and no pixel."""
    lower = np.tril(np.ones((20, 20), bool), -1)
    return [lower, lower.T.copy()]


def nested() -> list[np.ndarray]:
    whole, part = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    part[5:10, 5:10] = True
    return [whole, part]


def rows_kept(found: Segments) -> list[int]:
    return [int(x) for x in found.prompts.points[:, 0, 0].tolist()]


@pytest.mark.parametrize(
    ("masks", "kind", "kept"),
    [
        (diagonals(), "box", [0]),
        (diagonals(), "mask", [0, 1]),
        (diagonals(), "containment", [0, 1]),
        (nested(), "box", [0, 1]),
        (nested(), "mask", [0, 1]),
        (nested(), "containment", [0]),
        (nested() + nested(), "mask", [0, 1]),
        (nested() + nested(), "none", [0, 1, 2, 3]),
    ],
)
def test_what_each_kind_takes_for_a_duplicate(masks: list, kind: str, kept: list[int]):
    scores = [0.9 - 0.1 * i for i in range(len(masks))]
    assert rows_kept(suppress(segments(masks, scores), torch.tensor(scores), kind, 0.7)) == kept


def test_containment_drops_only_what_lies_in_a_better_mask():
    found = segments(nested(), [0.1, 0.9])
    assert rows_kept(suppress(found, found.scores, "containment", 0.7)) == [1, 0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_best_come_first_and_nothing_stays_nothing(kind: str):
    masks = [np.eye(20, k=k, dtype=bool) for k in (0, 7, -7)]
    found = suppress(segments(masks, [0.2, 0.9, 0.5]), torch.tensor([0.2, 0.9, 0.5]), kind, 0.7)
    assert rows_kept(found) == [1, 2, 0]
    assert len(suppress(Segments.empty(), torch.zeros(0), kind, 0.7)) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.92, 1.0])
@pytest.mark.parametrize("kind", ["mask", "containment"])
def test_it_is_as_if_all_pairs_were_compared(kind: str, threshold: float):
    random = np.random.default_rng(0)
    corners = random.integers(0, 24, (60, 2))
    masks = [np.zeros((32, 32), bool) for _ in corners]
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + random.integers(2, 9), x : x + 4 * random.integers(1, 3)] = True
    scores = random.permutation(60) / 60
    kept: list[int] = []
    for row in np.argsort(-scores):
        shared = [np.count_nonzero(masks[row] & masks[k]) for k in kept]
        whole = [masks[row] if kind == "containment" else masks[row] | masks[k] for k in kept]
        if all(s / np.count_nonzero(w) <= threshold for s, w in zip(shared, whole, strict=True)):
            kept.append(int(row))
    found = suppress(segments(masks, scores.tolist()), torch.from_numpy(scores), kind, threshold)
    assert rows_kept(found) == kept
    assert 0 < len(kept) <= 60
