"""What a model makes of single prompts: mean IoU with the segment that was meant.

The survey's "segment anything" tables: a click at the segment's centre, one and three random
points inside it, its box. A click has three answers; scores are given for the one with the highest
predicted IoU and for the best of the three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from scipy import ndimage
from torch import Tensor

from everything.core.geometry import Frame, View, whole
from everything.core.prompts import Prompts
from everything.errors import InputError
from everything.io.datasets.image_masks import images_with_masks
from everything.pipeline.pipeline import Pipeline

MIN_AREA = 100  # px
_TOGETHER = 64  # prompts
Mask = NDArray[np.bool_]
KINDS = ("centre", "random-1", "random-3", "box")


@dataclass(frozen=True)
class PromptScore:
    """Mean IoU of one kind of prompt, over segments. top: of the answer that the model prefers;
    best: of its best answer; top_by_area, best_by_area: weighted by the segments' areas."""

    top: float
    top_by_area: float
    best: float
    best_by_area: float


@dataclass(frozen=True)
class PromptScores:
    """Scores by kind of prompt (KINDS); photos and segments: how many."""

    kinds: dict[str, PromptScore]
    photos: int
    segments: int

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON has them."""
        return asdict(self)

    def table(self, title: str = "") -> Table:
        """Return the scores as a table for the terminal."""
        table = Table("prompt", title=title or None, title_justify="left")
        for name in ("IoU of the top mask", "best of its masks"):
            table.add_column(name, justify="right")
            table.add_column("by area", justify="right")
        for kind, score in self.kinds.items():
            values = (score.top, score.top_by_area, score.best, score.best_by_area)
            table.add_row(kind, *(f"{value:.3f}" for value in values))
        table.caption = f"{self.segments:,} segments of {self.photos:,} photos"
        return table


@torch.inference_mode()
def evaluate_prompts(
    pipeline: Pipeline,
    truth: Path,
    split: str | None = None,
    *,
    min_area: int = MIN_AREA,
    seed: int = 0,
    limit: int | None = None,
    photos: Path | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> PromptScores:
    """Return how well a model answers one prompt for each segment of the truth.

    truth: as of evaluate.evaluate, with its photos, which are in `photos` if not beside it; the
    masks of at least min_area px, of every annotator. Clicks ask for three masks, three points
    and boxes for one, as SAM's authors advise. seed: of the random points, the same for every
    model. limit: only so many photos. progress: called with the number of photos done,
    and `limit`. Neither sampler nor filters have a part in it.
    Raises InputError if there are no segments.
    """
    ious: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    areas: list[float] = []
    count = 0
    for photo, masks in images_with_masks(truth, split, min_area, limit, photos):
        count += 1
        areas += [float(mask.sum()) for mask in masks]
        for kind, found in _of_photo(pipeline, photo, masks, seed + count):
            ious[kind].append(found)
        progress(count, limit)
    if not areas:
        raise InputError(f"{truth}: has no segments of {min_area} px or more: give another truth")
    weights = np.array(areas)
    scores = {kind: _score(np.concatenate(found), weights) for kind, found in ious.items()}
    return PromptScores(scores, count, len(areas))


def _score(ious: NDArray[np.float64], areas: NDArray[np.float64]) -> PromptScore:
    """ious: (N, 2), of the top and of the best mask."""
    top, best = ious.mean(0).tolist()
    top_by_area, best_by_area = np.average(ious, 0, areas).tolist()
    return PromptScore(top, top_by_area, best, best_by_area)


def _of_photo(
    pipeline: Pipeline, photo: NDArray[np.uint8], masks: list[Mask], seed: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    view = whole(photo)
    embedding = pipeline.model.encode(view)
    dice = np.random.default_rng(seed)
    several = {"centre": True, "random-1": True, "random-3": False, "box": False}
    asked = {
        "centre": Prompts.clicks(torch.tensor([centre(mask) for mask in masks]).reshape(-1, 2)),
        "random-1": _points([_inside(mask, 1, dice) for mask in masks]),
        "random-3": _points([_inside(mask, 3, dice) for mask in masks]),
        "box": Prompts.boxes(torch.tensor([box(mask) for mask in masks]).reshape(-1, 4)),
    }
    for kind, prompts in asked.items():
        parts = [np.zeros((0, 2))]
        for start in range(0, len(masks), _TOGETHER):
            some = prompts[start : start + _TOGETHER]
            wanted = masks[start : start + _TOGETHER]
            parts.append(_answers(pipeline, view, embedding, some, wanted, several[kind]))
        yield kind, np.concatenate(parts)


def _answers(
    pipeline: Pipeline,
    view: View,
    embedding: Any,
    prompts: Prompts,
    wanted: list[Mask],
    several: bool,
) -> NDArray[np.float64]:
    """IoU of the top and of the best answer with what was wanted, (P, 2); 0 without any answer."""
    model, frame = pipeline.model, pipeline.model.frame(view.size)
    on_canvas = Prompts(frame.to_canvas(prompts.points), prompts.labels)
    candidates = model.propose(embedding, on_canvas, several)
    ious = np.zeros((len(wanted), 2))
    top = np.full(len(wanted), -np.inf)
    of, scores = candidates.prompt.tolist(), candidates.scores.tolist()
    for start in range(0, len(of), 8):
        rows = torch.arange(start, min(start + 8, len(of)))
        for row, mask in zip(rows.tolist(), _drawn(candidates.draw(rows), frame), strict=True):
            p = of[row]
            iou = _iou(mask, wanted[p])
            ious[p, 1] = max(ious[p, 1], iou)
            if scores[row] > top[p]:
                top[p], ious[p, 0] = scores[row], iou
    return ious


def _drawn(logits: Tensor, frame: Frame) -> list[Mask]:
    return list((frame.to_view(logits) > 0).cpu().numpy())


def _iou(a: Mask, b: Mask) -> float:
    both = int((a & b).sum())
    return both / max(1, int(a.sum()) + int(b.sum()) - both)


def centre(mask: Mask) -> tuple[float, float]:
    """Return the point (x, y) of a mask (H, W) that is farthest from all that is not the mask, in
    px, at the centre of its pixel; the photo's edge is not the mask either."""
    (rows, columns) = ndimage.find_objects(mask.astype(np.int8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[rows, columns], 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x) - 1 + columns.start + 0.5, float(y) - 1 + rows.start + 0.5


def box(mask: Mask) -> tuple[float, float, float, float]:
    """Return the box xyxy of a mask (H, W), px; the far edges of its last pixels belong to it."""
    (rows, columns) = ndimage.find_objects(mask.astype(np.int8))[0]
    return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)


def _inside(mask: Mask, n: int, dice: np.random.Generator) -> NDArray[np.float64]:
    """The centres (n, 2) xy of n random pixels of a mask; different ones, if there are as many."""
    y, x = mask.nonzero()
    some = dice.choice(len(y), n, replace=len(y) < n)
    return np.stack([x[some], y[some]], 1).astype(np.float64) + 0.5


def _points(points: Iterable[NDArray[np.float64]]) -> Prompts:
    xy = torch.from_numpy(np.stack(list(points)))
    return Prompts(xy, torch.ones(xy.shape[:2], dtype=torch.int64))
