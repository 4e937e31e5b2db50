"""The gate that every mask passes: predicted IoU, stability, crop edge."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from everything.config import Filters
from everything.core import mask_ops
from everything.core.geometry import Frame, View
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.core.stage_timer import StageTimer
from everything.masks.masks import Decoded, Masks
from everything.masks.segments import Segments
from everything.pipeline.adaptive_batch_size import is_out_of_memory
from everything.pipeline.mask_stats import Arithmetic, Place, measure

# Masks drawn together are a multiple of three, so that a click's answers stay together, and what
# they take is below 32 MiB: malloc would ask the system for more, and clear it, each time. On a
# GPU only waits count, so that as many as may be are drawn together.
FIRST, MOST, WORKING_SET = 24, 96, 16 * 2**20  # masks; bytes of logits


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


def gate(
    candidates: Candidates,
    prompts: Prompts,
    frame: Frame,
    view: View,
    filters: Filters,
    timer: StageTimer,
    way: Arithmetic = "auto",
) -> Iterator[Masks]:
    """Yield the drafts that pass as masks, a bounded number at a time.

    prompts: P rows, view px, that the drafts answer. Only drafts with a sufficient score are
    drawn at all. The clock counts what was promising and what was stable. way: see `measure`.
    """
    rows, together, most = promising(candidates, filters), FIRST, MOST
    timer.counts["promising"] += len(rows)
    while len(rows):
        some = rows[:together]
        try:
            with timer.stage("decode"):
                logits = candidates.draw(some)
            of, scores, levels = (
                candidates.prompt[some],
                candidates.scores[some],
                candidates.level[some],
            )
            decoded = Decoded(logits, scores, levels, prompts[of], frame)
            with timer.stage("select"):
                masks = accept(decoded, view, filters, way)
        except Exception as error:
            if not is_out_of_memory(error) or together <= 3:
                raise
            together = most = together // 6 * 3  # fewer at a time need less, and are the same masks
            continue
        rows = rows[together:]
        room = WORKING_SET // logits[0].nbytes if logits.device.type == "cpu" else most
        together = min(most, max(3, room // 3 * 3))
        timer.counts["stable"] += len(masks)
        yield masks


def accept(decoded: Decoded, view: View, filters: Filters, way: Arithmetic = "auto") -> Masks:
    """Return the decoded masks that are stable and not cut off by a crop's edge.

    A stability must reach its threshold, as in SAM; a threshold of 0 lets everything pass but
    masks without a pixel, which SAM would keep. way: see `measure`.
    """
    x, y = view.box[:2]
    place = Place((x, y), view.image_size)
    measured = measure(decoded.logits, decoded.frame, filters.stability_score_offset, way, place)
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
    )
    return Masks(kept, segments)


def _first_of_each(identity: Tensor) -> Tensor:
    """Positions of the first row of every distinct number, ascending."""
    _, group = torch.unique(identity, return_inverse=True)
    positions = torch.arange(len(identity))
    first = positions.new_full((int(group.max()) + 1 if len(group) else 0,), len(identity))
    return first.scatter_reduce(0, group, positions, "amin").sort().values
