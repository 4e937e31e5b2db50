"""The filters of masks: predicted IoU, stability, crop edge."""

from __future__ import annotations

import torch
from torch import Tensor

from everything.config import Filters
from everything.core import mask_ops
from everything.core.geometry import View
from everything.core.protocols import Candidates
from everything.masks.masks import Decoded, Masks
from everything.masks.segments import Segments
from everything.pipeline.device_masks import Place
from everything.pipeline.mask_stats import DEVICE_MEMORY, Arithmetic, measure


def promising(candidates: Candidates, filters: Filters) -> Tensor:
    """Return the rows worth drawing, int64 (K,): score above the threshold, none of them twice,
    the best-scored where several prompts found the same.

    A predicted IoU must exceed its threshold, as in SAM; a threshold of 0 lets everything pass.
    """
    rows = torch.arange(len(candidates.scores))
    if filters.pred_iou_thresh > 0:
        rows = rows[candidates.scores > filters.pred_iou_thresh]
    rows = rows[candidates.scores[rows].argsort(descending=True, stable=True)]
    return rows[_first_of_each(candidates.identity[rows])].sort().values


def accept(
    decoded: Decoded,
    view: View,
    filters: Filters,
    arithmetic: Arithmetic = "auto",
    memory: int = DEVICE_MEMORY,
) -> Masks:
    """Return the decoded masks that are stable and not cut off by a crop's edge.

    A stability must reach its threshold, as in SAM; a threshold of 0 lets everything pass but
    masks without a pixel, which SAM would keep. arithmetic, memory: see `measure`.
    """
    x, y = view.box[:2]
    place = Place((x, y), view.image_size)
    measured = measure(
        decoded.logits,
        decoded.frame,
        filters.stability_score_offset,
        arithmetic,
        place,
        memory,
        filters.mask_threshold,
    )
    boxes = measured.boxes + torch.tensor([x, y, x, y])
    passes = (measured.areas > 0) & ~mask_ops.cut_off(boxes, view.box, view.image_size)
    if filters.stability_score_thresh > 0:
        passes &= measured.stability >= filters.stability_score_thresh
    keep = passes.nonzero().flatten()
    kept = decoded if len(keep) == len(decoded) else decoded[keep]  # spares a copy of all logits
    segments = Segments(
        rles=measured.codes(keep.tolist()),
        boxes=boxes[keep],
        scores=kept.scores,
        stability=measured.stability[keep],
        levels=kept.levels,
        prompts=kept.prompts.moved((x, y)),
        crops=torch.tensor([view.box] * len(keep), dtype=torch.int64).reshape(-1, 4),
        size=view.image_size,
    )
    return Masks(kept, segments)


def _first_of_each(identity: Tensor) -> Tensor:
    """Positions of the first row of every distinct number, ascending."""
    _, group = torch.unique(identity, return_inverse=True)
    positions = torch.arange(len(identity))
    first = positions.new_full((int(group.max()) + 1 if len(group) else 0,), len(identity))
    return first.scatter_reduce(0, group, positions, "amin").sort().values
