"""Scores of results folders against ground truth.

Average recall is COCO's, class-agnostic, by faster-coco-eval's evaluator: masks ranked by predicted
IoU, IoU .50:.05:.95, small, medium and large by 32² and 96² px at 1000 masks. Where several people
annotated an image, the segments of all of them together are the ground truth. COCO matches a mask
with one segment only, so that a segment which two people drew alike needs two masks; the recall of
shared masks, the same mean without that rule, lets one mask match both.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from everything.core import rle
from everything.core.file_names import printable
from everything.core.sa1b import Annotation
from everything.errors import InputError
from everything.evaluation.average_recall import MAX_MASKS, SIZES, AverageRecall
from everything.evaluation.boundary_f import (
    BoundaryScores,
    BoundaryTally,
    Counts,
    contours_of_masks,
    count_matches,
)
from everything.io.datasets.ground_truth import (
    GroundTruth,
    NameMatcher,
    first_names,
    read_ground_truth,
)
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Result, Results
from everything.io.storage.locations import Location

MIN_AREA = 100  # px of a segment that counts, of truth that comes as label maps
_LEVELS = 20
_PENDING = 64  # images whose contours wait for a worker
_IOUS = np.linspace(0.5, 0.95, 10)
_Tree = dict[str, Any]


@dataclass(frozen=True)
class Scores:
    """Scores of a results folder.

    Attributes:
        ar: Average recall at 1, 10, 100 and 1000 masks per image, and of small, medium and large
            segments at 1000; NaN where there are none.
        shared: Recall at 1 to 1000 masks, if a mask may be matched with any number of segments.
        covering: Mean over segments of the best mask's IoU.
        covering_by_area: The same, weighted by the segments' areas.
        boundary: None where the ground truth does not cover whole images.
        photos: Number of images that were compared.
        segments: Number of ground-truth segments in them.
        masks: Number of masks in them.
        unused: Labelled images that the ground truth does not have.
        other_size: Images that were left out, since they were labelled in another size than the
            ground truth has, as after a rotation.
        left_out: Number of annotations of the ground truth that could not be used, by reason.
        mended: Number of annotations that were used after a correction, by what was corrected.
        bad_images: Number of images of the ground truth that could not be used.
        unreadable: Why images were left out whose annotation files cannot be read, or have masks
            without scores.
        reviewed_out: Number of images of the ground truth that a review of the labels leaves out.
    """

    ar: dict[str, float]
    shared: dict[str, float]
    covering: float
    covering_by_area: float
    boundary: BoundaryScores | None
    photos: int
    segments: int
    masks: int
    unused: tuple[str, ...] = ()
    other_size: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    bad_images: int = 0
    unreadable: tuple[str, ...] = ()
    reviewed_out: int = 0

    def to_json(self) -> _Tree:
        """Return the scores as JSON has them; what cannot be measured is null."""
        tree = asdict(self)
        for name in ("ar", "shared"):
            tree[name] = {key: _or_none(value) for key, value in tree[name].items()}
        for name in ("covering", "covering_by_area"):
            tree[name] = _or_none(tree[name])
        return tree

    def table(self, title: str = "") -> Table:
        """Return the scores as a table for the terminal."""
        table = Table("score", title=title or None, title_justify="left")
        table.add_column("value", justify="right")
        for name, value in self.ar.items():
            table.add_row(f"AR {name}" if name in SIZES else f"AR@{name}", _number(value))
        for name, value in self.shared.items():
            table.add_row(f"recall of shared masks @{name}", _number(value))
        table.add_row("best IoU, mean of segments", _number(self.covering))
        table.add_row("best IoU, weighted by area", _number(self.covering_by_area))
        if self.boundary is not None:
            b = self.boundary
            table.add_row("boundary F (ODS)", _number(b.f))
            table.add_row("  precision, recall", f"{_number(b.precision)}, {_number(b.recall)}")
            table.add_row("boundary F (OIS)", _number(b.best_per_photo))
        table.add_section()
        table.add_row("images", f"{self.photos:,}")
        table.add_row("segments", f"{self.segments:,}")
        table.add_row("masks", f"{self.masks:,}")
        if self.unused:
            table.add_row("images without ground truth (ignored)", f"{len(self.unused):,}")
        if self.other_size:
            table.add_row(f"of another size, left out ({first_names([*self.other_size])})",
                          f"{len(self.other_size):,}")  # fmt: skip
        if self.unreadable:
            table.add_row("annotation files that cannot be used, left out",
                          f"{len(self.unreadable):,}")  # fmt: skip
        for reason, count in self.left_out.items():
            table.add_row(f"ground truth left out: {reason}", f"{count:,}")
        for what, count in self.mended.items():
            table.add_row(f"ground truth mended: {what}", f"{count:,}")
        if self.bad_images:
            table.add_row("images of the ground truth left out", f"{self.bad_images:,}")
        if self.reviewed_out:
            table.add_row("images left out by the review", f"{self.reviewed_out:,}")
        return table


def evaluate(
    labels: Location,
    truth: Path,
    split: str | None = None,
    *,
    min_area: int = MIN_AREA,
    boundaries: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
    keep: MaskFilter | None = None,
) -> Scores:
    """Return the scores of a results folder.

    Images are matched by relative path, with or without suffix, else by stem. Memory holds ground
    truth of one image at a time, its results, and the run lengths of some hundred.

    Args:
        labels: What `everything label` wrote, or SA-1B's JSON files.
        truth: A COCO file, a folder of annotation files like `labels`, or what
            everything/io/datasets/label_maps.py reads (a data pack or label maps).
        split: The part of a data pack.
        min_area: Segments of a label map below this, px, do not count.
        boundaries: Also compute the boundary F, where the ground truth covers whole images; it
            takes seconds per image.
        progress: Called with the number of images done, and of those labelled.
        workers: Processes that compute the boundary F; with more than one, a calling script needs
            the usual `if __name__ == "__main__":`.
        keep: Which masks are scored; all by default.

    Returns:
        The scores, and what was left out.

    Raises:
        InputError: Images of the ground truth are not labelled, or none can be compared.
    """
    tally = ReadingTally()
    known = read_ground_truth(truth, split, min_area, contours=boundaries, tally=tally)
    scores = score(
        labels, known, boundaries=boundaries, progress=progress, workers=workers, keep=keep
    )
    return replace(
        scores,
        left_out=dict(tally.left_out),
        mended=dict(tally.mended),
        bad_images=tally.bad_images,
    )


def score(
    labels: Location,
    known: Iterable[GroundTruth],
    *,
    boundaries: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 1,
    keep: MaskFilter | None = None,
) -> Scores:
    """Return the scores of a results folder against ground truth; see `evaluate`."""
    results = Results(labels, keep=keep)
    names = NameMatcher([*results.files, *results.left_out])
    levels = _levels(results) if boundaries else []
    with _workers(workers if levels else 1) as pool:
        tally = _Tally(levels, pool=pool)
        other_size = _compare(tally, results, names, known, progress)
        tally.wait_for(0)
    if other_size and not tally.photos:
        raise InputError(f"{first_names(other_size)}: label the images that were annotated")
    unreadable = tuple(results.unreadable.values())
    if unreadable and not tally.photos:
        raise InputError(unreadable[0])
    if not tally.photos and names.used:
        raise InputError(f"{printable(str(labels))}: the review leaves out all annotated images")
    if not tally.photos:
        raise InputError(
            f"{printable(str(labels))}: the ground truth has no images: choose another --split"
        )
    unused = tuple(key for key in results.files if key not in names.used)
    return replace(
        tally.scores(unused, tuple(other_size)),
        unreadable=unreadable,
        reviewed_out=len(names.used & results.left_out),
    )


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes beside this one; None for a count of 1. Those of an interrupted run are ended."""
    if count == 1:
        yield None
        return
    pool = ProcessPoolExecutor(count, get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _compare(
    tally: _Tally,
    results: Results,
    names: NameMatcher,
    known: Iterable[GroundTruth],
    progress: Callable[[int, int], None],
) -> list[str]:
    """Add the images of the ground truth to a tally; return those of another size."""
    missing: list[str] = []
    other_size: list[str] = []
    for truth in known:
        key = names.find(truth.name)
        if key is None:
            missing.append(truth.name)
        elif not missing:
            names.used.add(key)
            if key in results.left_out:
                continue
            result = _scored(results, key)
            if result is None:
                pass  # counted in `results.unreadable`
            elif result.size == truth.size:
                tally.add(truth, result)
            else:
                other_size.append(_sizes(truth, result))
            progress(tally.photos, len(results))
    if missing:
        raise InputError(
            f"{printable(str(results.root))}: {len(missing)} images of the ground truth are not "
            f"labelled ({first_names(missing)}): label them, or choose a part with --split"
        )
    return other_size


def _sizes(truth: GroundTruth, result: Result) -> str:
    (h, w), (height, width) = result.size, truth.size
    name = printable(truth.name)
    return f"{name}: {w} x {h} px were labelled, the ground truth has {width} x {height}"


def _scored(results: Results, key: str) -> Result | None:
    """A result whose masks have scores; None if it has none or cannot be read, which is counted."""
    result = results.read_or_leave_out(key)
    if result and not all("predicted_iou" in one for one in result.annotations):
        reason = "masks without predicted_iou: add scores that rank them, or 1"
        results.leave_out(key, f"{results.where(key)}: {reason}")
        return None
    return result


def _levels(results: Results) -> list[float]:
    """Thresholds for contours: as many predicted IoUs as levels, evenly spread over all masks."""
    found = (_scored(results, key) for key in results.files)
    kept = (result.annotations for result in found if result is not None)
    scores = array("d", (a["predicted_iou"] for annotations in kept for a in annotations))
    if not scores:
        return [0.5]
    levels: list[float] = np.unique(np.quantile(scores, np.linspace(0, 1, _LEVELS))).tolist()
    return levels


@dataclass
class _Tally:
    """What is added up, image by image; of each, four numbers a segment remain."""

    levels: list[float]
    recall: AverageRecall = field(default_factory=AverageRecall)
    photos: int = 0
    masks: int = 0
    best: list[NDArray[np.float64]] = field(default_factory=list)
    areas: list[NDArray[np.float64]] = field(default_factory=list)
    is_complete: bool = True
    pool: ProcessPoolExecutor | None = None
    pending: deque[Future[Counts]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.boundaries = BoundaryTally(self.levels)
        self.is_complete = bool(self.levels)

    def add(self, photo: GroundTruth, result: Result) -> None:
        """Add an image with its results, of the same size."""
        codes = [row["segmentation"] for row in photo.annotations]
        truths = [_truth(*pair) for pair in zip(photo.annotations, codes, strict=True)]
        self.recall.add(photo.size, truths, [_mask(a) for a in result.annotations])
        self.photos += 1
        self.masks += len(result.annotations)
        self._cover(photo, codes, result)
        if photo.contours is None:
            self.is_complete = False
        elif self.levels:
            self._add_contours(photo.contours, result)

    def _add_contours(self, contours: NDArray[np.bool_], result: Result) -> None:
        task = (result.annotations, result.size, contours, self.levels)
        if self.pool is None:
            self.boundaries.append(_boundary_counts(*task))
        else:
            self.pending.append(self.pool.submit(_boundary_counts, *task))
            self.wait_for(_PENDING)

    def wait_for(self, pending: int) -> None:
        """Wait until at most so many images are pending in the workers."""
        while len(self.pending) > pending:
            self.boundaries.append(self.pending.popleft().result())

    def _cover(self, photo: GroundTruth, codes: list[rle.Rle], result: Result) -> None:
        single = [i for i, row in enumerate(photo.annotations) if not row.get("iscrowd")]
        wanted = [codes[i] for i in single]
        found: list[rle.Rle] = [a["segmentation"] for a in result.annotations]
        # Best first, and of equals the first, as the evaluator has them.
        order = np.argsort([-a["predicted_iou"] for a in result.annotations], kind="stable")
        overlap = np.zeros((len(wanted), 1 + len(found)))
        if wanted and found:
            overlap[:, 1:] = np.maximum.accumulate(rle.iou(wanted, found).numpy()[:, order], 1)
        self.best.append(overlap[:, [min(n, len(found)) for n in MAX_MASKS]])
        self.areas.append(rle.areas(wanted).double().numpy())

    def scores(self, unused: tuple[str, ...], other_size: tuple[str, ...]) -> Scores:
        """Return the scores of all that was added."""
        best_of, areas = np.concatenate(self.best), np.concatenate(self.areas)
        best = best_of[:, -1]
        some = areas.sum() > 0
        recall = (best_of[..., None] >= _IOUS).mean((0, 2)).tolist() if some else [np.nan] * 4
        return Scores(
            ar=self.recall.scores(),
            shared={str(n): value for n, value in zip(MAX_MASKS, recall, strict=True)},
            covering=float(best.mean()) if some else float("nan"),
            covering_by_area=float((best * areas).sum() / areas.sum()) if some else float("nan"),
            boundary=self.boundaries.scores() if self.is_complete else None,
            photos=self.photos,
            segments=len(best),
            masks=self.masks,
            unused=unused,
            other_size=other_size,
        )


def _boundary_counts(
    annotations: list[Annotation],
    size: tuple[int, int],
    contours: NDArray[np.bool_],
    levels: list[float],
) -> Counts:
    return count_matches(contours_of_masks(annotations, size), contours, levels)


def _truth(row: _Tree, code: rle.Rle) -> _Tree:
    return {
        "segmentation": code,
        "area": row["area"],
        "iscrowd": row.get("iscrowd", 0),
        "bbox": row.get("bbox", [0, 0, 0, 0]),
    }


def _mask(annotation: Annotation) -> _Tree:
    return {"segmentation": annotation["segmentation"], "score": annotation["predicted_iou"]}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
