"""Boundary F on maps whose scores are known."""

from collections.abc import Iterable, Sequence

import networkx
import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from everything.core.label_map import contours_of_labels
from everything.evaluation.boundary_f import (
    REACH,
    THRESHOLDS,
    BoundaryScores,
    BoundaryTally,
    contours_of_masks,
    match,
)
from tests.labelled import disc, records

SIZE = (120, 160)  # diagonal 200: reach 1.5 px
LABELS = np.where(disc(SIZE, (60, 60), 30), 1, 2)
LABELS[:, 120:] = 3


def square(x: int) -> np.ndarray:
    labels = np.zeros(SIZE, int)
    labels[20:100, x : x + 60] = 1
    return labels


def boundary_f(
    images: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: Sequence[float] = THRESHOLDS
) -> BoundaryScores:
    """The scores of boundary maps (H, W), each with label maps (K, H, W), one per annotator."""
    tally = BoundaryTally(thresholds)
    for strength, labels in images:
        tally.add(strength, np.stack([contours_of_labels(one) for one in labels]))
    return tally.scores()


def test_perfect_contours_score_one():
    scores = boundary_f([(contours_of_labels(LABELS).astype(float), LABELS[None])])
    assert (scores.f, scores.precision, scores.recall) == (1.0, 1.0, 1.0)


def test_a_shift_within_reach_costs_nothing_and_one_beyond_all_of_it():
    near = contours_of_labels(square(41)).astype(float)
    far = contours_of_labels(square(80)).astype(float)[:, :]
    assert boundary_f([(near, square(40)[None])]).f > 0.98
    scores = boundary_f([(far, square(20)[None])])
    assert scores.f == pytest.approx(2 * 20 * 2 / (80 + 80 + 60 + 60), abs=0.05)


def test_half_of_the_contours_found():
    truth = contours_of_labels(square(40))
    half = truth & (np.arange(SIZE[0])[:, None] < 60)
    scores = boundary_f([(half.astype(float), square(40)[None])])
    assert scores.precision == 1
    assert scores.recall == pytest.approx(half.sum() / truth.sum(), abs=0.02)


def test_the_threshold_is_chosen_for_all_photos_together_and_for_each():
    truth = contours_of_labels(square(40))
    noise = np.zeros(SIZE)
    noise[::7] = 1
    photos = [
        (np.maximum(truth * 0.9, noise * 0.5), square(40)[None]),
        (np.maximum(truth * 0.3, noise * 0.1), square(40)[None]),
    ]
    scores = boundary_f(photos, [0.2, 0.4, 0.8])
    assert scores.best_per_photo > scores.f + 0.05
    assert scores.threshold in (0.2, 0.8)
    assert len(scores.curve) == 3


def test_precision_takes_any_annotator_and_recall_all_of_them():
    one, two = square(20), square(80)
    found = contours_of_labels(one)
    scores = boundary_f([(found.astype(float), np.stack([one, two]))])
    assert scores.precision == 1
    assert 0.45 < scores.recall < 0.7


def test_nothing_found_and_nothing_drawn():
    empty = np.zeros(SIZE)
    scores = boundary_f([(empty, square(40)[None])])
    assert (scores.precision, scores.recall, scores.f) == (1.0, 0.0, 0.0)
    blank = boundary_f([(empty, np.ones((1, *SIZE), int))])
    assert (blank.precision, blank.recall, blank.f) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="no image"):
        BoundaryTally().scores()


def test_each_pixel_has_at_most_one_partner():
    line, thick = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    line[60, 20:100] = True
    thick[59:62, 20:100] = True
    matched, count = match(thick, line)
    assert count == 80
    assert matched.sum() == 80


def test_as_many_pairs_as_another_library_finds():
    dice = np.random.default_rng(1)
    found, truth = dice.random((2, 60, 60)) < 0.06
    reach = REACH * np.hypot(60, 60) + 1e-9
    graph = networkx.Graph()
    ours, theirs = np.argwhere(found), np.argwhere(truth)
    graph.add_nodes_from(("a", i) for i in range(len(ours)))
    for i, p in enumerate(ours):
        for j, q in enumerate(theirs):
            if np.hypot(*(p - q)) <= reach:
                graph.add_edge(("a", i), ("b", j))
    tops = [node for node in graph if node[0] == "a"]
    pairs = networkx.bipartite.maximum_matching(graph, tops)
    assert match(found, truth)[1] == len(pairs) // 2 > 0


def test_contours_lie_between_regions():
    contour = contours_of_labels(LABELS)
    assert (contour <= find_boundaries(LABELS)).all()
    assert not contours_of_labels(np.ones(SIZE, int)).any()
    assert contour[50, 119]
    assert not contour[50, 120]


def test_contours_of_masks_have_the_highest_score():
    whole, part = disc(SIZE, (60, 60), 30), disc(SIZE, (60, 60), 10)
    strength = contours_of_masks(records([whole, whole, part], [0.5, 0.75, 0.25]), SIZE)
    assert set(np.unique(strength)) == {0.0, 0.25, 0.75}
    assert strength.dtype == np.float32
    assert not contours_of_masks(records([np.ones(SIZE, bool)]), SIZE).any()
    assert not contours_of_masks([], SIZE).any()
