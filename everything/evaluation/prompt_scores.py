"""Scores of a model on single prompts: mean IoU with the ground-truth segment.

As in the survey's "segment anything" tables, each segment is prompted by a click at its centre, by
one and by three random points inside it, and by its box. A click gives three masks: scores are
reported for the one with the highest predicted IoU and for the best of the three.
"""

from __future__ import annotations

import logging
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
_BATCH, _DRAWN = 64, 8  # prompts per decoder call, masks drawn at a time
Mask = NDArray[np.bool_]
_log = logging.getLogger(__name__)
KINDS = ("centre", "random-1", "random-3", "box")


@dataclass(frozen=True)
class PromptScore:
    """Mean IoU over segments for one kind of prompt.

    Attributes:
        top: Of the mask with the highest predicted IoU.
        top_by_area: The same, weighted by the segments' areas.
        best: Of the best mask.
        best_by_area: The same, weighted by the segments' areas.
    """

    top: float
    top_by_area: float
    best: float
    best_by_area: float


@dataclass(frozen=True)
class PromptScores:
    """Scores by kind of prompt (KINDS), with the numbers of images and segments."""

    kinds: dict[str, PromptScore]
    photos: int
    segments: int

    def to_json(self) -> dict[str, Any]:
        """Return the scores as values that JSON can hold."""
        return asdict(self)

    def table(self, title: str = "") -> Table:
        """Return the scores as a table for the terminal."""
        table = Table("prompt", title=title or None, title_justify="left")
        for name in ("IoU of the top mask", "IoU of the best mask"):
            table.add_column(name, justify="right")
            table.add_column("by area", justify="right")
        for kind, score in self.kinds.items():
            values = (score.top, score.top_by_area, score.best, score.best_by_area)
            table.add_row(kind, *(f"{value:.3f}" for value in values))
        table.caption = f"{self.segments:,} segments in {self.photos:,} images"
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
    """Score a model's masks for one prompt of each kind per ground-truth segment.

    Sampler and filters are not used. Clicks give three masks; three points and boxes give one, as
    SAM's authors recommend.

    Args:
        pipeline: The model is taken from it.
        truth: As in `mask_scores.evaluate`; its images are needed too.
        split: Part of a data pack.
        min_area: Segments of any annotator that are smaller than this are ignored, px.
        seed: Seed of the random points, which are the same for every model.
        limit: Use only the first images.
        photos: Folder of the images, if they are not beside the ground truth.
        progress: Called with the number of images done, and `limit`.

    Raises:
        InputError: There are no segments, or an image is missing.
    """
    ious: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    areas: list[float] = []
    count = 0
    for image, masks in images_with_masks(truth, split, min_area, limit, photos):
        count += 1
        areas += [float(mask.sum()) for mask in masks]
        for kind, found in _of_image(pipeline, image, masks, seed + count):
            ious[kind].append(found)
        _log.debug("image %d: %d segments", count, len(masks))
        progress(count, limit)
    if not areas:
        raise InputError(
            f"{truth}: has no segments of {min_area} px or more: give another ground truth"
        )
    weights = np.array(areas)
    scores = {kind: _score(np.concatenate(found), weights) for kind, found in ious.items()}
    return PromptScores(scores, count, len(areas))


def _score(ious: NDArray[np.float64], areas: NDArray[np.float64]) -> PromptScore:
    """The mean scores of IoUs (N, 2), of the top and of the best mask."""
    top, best = ious.mean(0).tolist()
    top_by_area, best_by_area = np.average(ious, 0, areas).tolist()
    return PromptScore(top, top_by_area, best, best_by_area)


def _of_image(
    pipeline: Pipeline, image: NDArray[np.uint8], masks: list[Mask], seed: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    view = whole(image)
    embedding = pipeline.model.encode(view)
    random = np.random.default_rng(seed)
    multimask = {"centre": True, "random-1": True, "random-3": False, "box": False}
    prompts_of = {
        "centre": Prompts.clicks(torch.tensor([centre(mask) for mask in masks]).reshape(-1, 2)),
        "random-1": _points([_inside(mask, 1, random) for mask in masks]),
        "random-3": _points([_inside(mask, 3, random) for mask in masks]),
        "box": Prompts.boxes(torch.tensor([box(mask) for mask in masks]).reshape(-1, 4)),
    }
    for kind, prompts in prompts_of.items():
        parts = [np.zeros((0, 2))]
        for start in range(0, len(masks), _BATCH):
            some = prompts[start : start + _BATCH]
            wanted = masks[start : start + _BATCH]
            parts.append(_ious(pipeline, view, embedding, some, wanted, multimask[kind]))
        yield kind, np.concatenate(parts)


def _ious(
    pipeline: Pipeline,
    view: View,
    embedding: Any,
    prompts: Prompts,
    wanted: list[Mask],
    multimask_output: bool,
) -> NDArray[np.float64]:
    """IoU (P, 2) of each prompt's top and best mask with its segment; 0 without any mask."""
    model, frame = pipeline.model, pipeline.model.frame(view.size)
    on_canvas = Prompts(frame.to_canvas(prompts.points), prompts.labels)
    candidates = model.propose(embedding, on_canvas, multimask_output)
    ious = np.zeros((len(wanted), 2))
    top = np.full(len(wanted), -np.inf)
    of, scores = candidates.prompt.tolist(), candidates.scores.tolist()
    for start in range(0, len(of), _DRAWN):
        rows = torch.arange(start, min(start + _DRAWN, len(of)))
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
    """Return the point (x, y) inside a mask (H, W) that is farthest from its contour and from the
    image's edge, px, at the centre of its pixel."""
    (rows, columns) = ndimage.find_objects(mask.astype(np.int8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[rows, columns], 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x) - 1 + columns.start + 0.5, float(y) - 1 + rows.start + 0.5


def box(mask: Mask) -> tuple[float, float, float, float]:
    """Return the box xyxy of a mask (H, W), px, up to the far edges of its last pixels."""
    (rows, columns) = ndimage.find_objects(mask.astype(np.int8))[0]
    return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)


def _inside(mask: Mask, n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """The centres (n, 2) xy of n random pixels of a mask, distinct if it has that many."""
    y, x = mask.nonzero()
    some = random.choice(len(y), n, replace=len(y) < n)
    return np.stack([x[some], y[some]], 1).astype(np.float64) + 0.5


def _points(points: Iterable[NDArray[np.float64]]) -> Prompts:
    xy = torch.from_numpy(np.stack(list(points)))
    return Prompts(xy, torch.ones(xy.shape[:2], dtype=torch.int64))
