"""Boundary F-measure: how well predicted contours match those that annotators drew.

Martin, Fowlkes and Malik (PAMI 2004), by the rules of BSDS500 (Arbelaez et al., PAMI 2011): at each
threshold the contour map is thinned and matched one to one with each annotator's contours, within
0.0075 of the image's diagonal. Precision counts pixels that match any annotator; recall is summed
over annotators; counts are summed over images before scores are computed (ODS). The matching here
maximises the number of pairs; theirs minimises the total distance, with outliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import maximum_flow
from skimage import morphology

from everything.core.label_map import contours_of_labels
from everything.core.rle import decode
from everything.core.sa1b import Annotation

REACH = 0.0075  # maximum distance of a match, as a share of the diagonal
THRESHOLDS = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary scores over all images.

    Attributes:
        f: F-measure at the best threshold for all images (ODS).
        precision: Precision at that threshold.
        recall: Recall at that threshold.
        threshold: That threshold.
        best_per_photo: F-measure with the best threshold for each image (OIS).
        photos: Number of images.
        curve: (threshold, precision, recall) for every threshold.
    """

    f: float
    precision: float
    recall: float
    threshold: float
    best_per_photo: float
    photos: int
    curve: tuple[tuple[float, float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as values that JSON can hold."""
        return asdict(self)


class BoundaryTally:
    """Adds up the counts of matched pixels, image by image.

    Args:
        thresholds: At each, the pixels whose strength is at least as high are contours.
    """

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS) -> None:
        self.thresholds = tuple(thresholds)
        self._photos: list[Counts] = []

    def add(self, strength: NDArray[np.floating[Any]], truths: Mask) -> None:
        """Add an image.

        Args:
            strength: Predicted contours, (H, W); 0 is no contour. Lines need not be thin.
            truths: The annotators' contours, bool (K, H, W).
        """
        self.append(count_matches(strength, truths, self.thresholds))

    def append(self, counts: Counts) -> None:
        """Add an image by what `count_matches` returns for these thresholds."""
        self._photos.append(counts)

    def scores(self) -> BoundaryScores:
        """Return the scores of all images so far.

        Raises:
            ValueError: There are none.
        """
        if not self._photos:
            raise ValueError("no image was added")
        photos = np.stack(self._photos)
        precision, recall, f = _rates(photos.sum(0))
        best = int(f.argmax())
        each = _rates(photos)[2].argmax(1)
        chosen = photos[np.arange(len(photos)), each].sum(0)
        curve = zip(self.thresholds, precision.tolist(), recall.tolist(), strict=True)
        return BoundaryScores(
            f=float(f[best]),
            precision=float(precision[best]),
            recall=float(recall[best]),
            threshold=self.thresholds[best],
            best_per_photo=float(_rates(chosen)[2]),
            photos=len(photos),
            curve=tuple(curve),
        )


def count_matches(
    strength: NDArray[np.floating[Any]], truths: Mask, thresholds: Sequence[float]
) -> Counts:
    """Return the counts of one image, int64 (thresholds, 4); takes seconds.

    Args:
        strength: Predicted contours, (H, W); 0 is no contour. Lines need not be thin.
        truths: The annotators' contours, bool (K, H, W).
        thresholds: As of BoundaryTally.

    Returns:
        At each threshold: pixels found, those that match any annotator, the annotators' pixels,
        and those of them that are matched.
    """
    drawn = [_thin(truth) for truth in truths]
    rows = []
    before: tuple[Mask, Counts] | None = None
    for threshold in thresholds:
        found = (strength >= threshold) & (strength > 0)
        if before is None or not np.array_equal(found, before[0]):
            before = found, _count(_thin(found), drawn)
        rows.append(before[1])
    return np.stack(rows)


def contours_of_masks(
    annotations: Sequence[Annotation], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return a map of contours, float32 (H, W), 0 elsewhere.

    A pixel on the contours of masks has the highest of their predicted IoUs. The image's edge is
    not a contour.

    Args:
        annotations: The masks.
        size: (H, W) of the image.
    """
    strength = np.zeros(size, np.float32)
    for annotation in annotations:
        mask = decode([annotation["segmentation"]], size)[0]
        contour = contours_of_labels(mask.astype(np.int8))
        score = np.float32(annotation["predicted_iou"])
        np.maximum(strength, contour * score, out=strength)
    return strength


def match(found: Mask, truth: Mask) -> tuple[Mask, int]:
    """Match pixels one to one, at most REACH apart, with as many pairs as possible.

    This is a maximum flow (Dinic, 1970).

    Args:
        found: Predicted contours, bool (H, W).
        truth: An annotator's contours, bool (H, W).

    Returns:
        Whether each pixel of `found`, in row-major order, is matched, bool (N,); the number of
        pairs.
    """
    reach = REACH * float(np.hypot(*found.shape))
    graph = _neighbours(found, truth, reach)
    n, m = graph.shape
    # A unit flows from a source through a pixel of `found` and one of `truth` into a sink. scipy's
    # maximum_bipartite_matching gives the same number, but takes seconds on such contours.
    rows = [np.zeros(n), 1 + graph.row, 1 + n + np.arange(m)]
    columns = [1 + np.arange(n), 1 + n + graph.col, np.full(m, 1 + n + m)]
    where = tuple(np.concatenate(x).astype(np.int32) for x in (rows, columns))
    pipes = csr_array((np.ones(len(where[0]), np.int32), where), shape=(n + m + 2,) * 2)
    flow = maximum_flow(pipes, 0, n + m + 1)
    matched: Mask = flow.flow[[0], 1 : n + 1].toarray()[0] > 0
    return matched, int(flow.flow_value)


def _neighbours(found: Mask, truth: Mask, reach: float) -> coo_array:
    """Pairs of pixels of `found` (rows) and `truth` (columns) that are at most `reach` px apart."""
    margin = int(reach)
    number = np.full(np.add(truth.shape, 2 * margin), -1, np.int32)
    inner = (slice(margin, margin + truth.shape[0]), slice(margin, margin + truth.shape[1]))
    number[inner][truth] = np.arange(truth.sum())
    y, x = np.nonzero(found)
    span = np.arange(-margin, margin + 1)
    offsets = [(dy, dx) for dy in span for dx in span if dy**2 + dx**2 <= reach**2]
    near = np.stack([number[y + margin + dy, x + margin + dx] for dy, dx in offsets], 1)
    rows, which = np.nonzero(near >= 0)
    shape = (len(y), int(truth.sum()))
    return coo_array((np.ones(len(rows), np.int8), (rows, near[rows, which])), shape=shape)


def _count(found: Mask, truths: Sequence[Mask]) -> Counts:
    """Counts (4,): predicted pixels, those that match any annotator; all annotators' pixels, those
    that are matched."""
    matches = [match(found, truth) for truth in truths]
    total = int(found.sum())
    any_match = np.any([matched for matched, _ in matches], axis=0) if matches else np.zeros(0)
    drawn = sum(int(truth.sum()) for truth in truths)
    return np.array([total, int(any_match.sum()), drawn, sum(n for _, n in matches)], np.int64)


def _thin(contour: Mask) -> Mask:
    """Contours thinned to a width of one pixel (Guo and Hall, 1989)."""
    thinned: Mask = morphology.thin(contour)  # type: ignore[no-untyped-call]
    return thinned


def _rates(counts: Counts) -> tuple[NDArray[np.float64], ...]:
    """Precision, recall and F of counts (..., 4); precision is 1 if no pixel is predicted."""
    found, right, drawn, hit = np.moveaxis(counts.astype(np.float64), -1, 0)
    precision = np.where(found > 0, right / np.maximum(found, 1), 1.0)
    recall = np.where(drawn > 0, hit / np.maximum(drawn, 1), 1.0)
    both = precision + recall
    return (
        precision,
        recall,
        np.where(both > 0, 2 * precision * recall / np.maximum(both, 1e-12), 0),
    )
