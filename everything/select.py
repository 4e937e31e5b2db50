"""The gate that every mask passes: predicted IoU, stability, crop edge."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from everything import ops, rle
from everything.clock import Clock
from everything.config import Filters
from everything.masks import Decoded, Masks
from everything.model import Drafts
from everything.prompts import Prompts
from everything.segments import Segments
from everything.view import Frame, View

WORKING_SET = 64 * 2**20  # bytes of full-resolution logits that are looked at together


def promising(drafts: Drafts, filters: Filters) -> Tensor:
    """Return the rows worth drawing, int64 (K,): score above the threshold, none of them twice.

    A predicted IoU must exceed its threshold, as in SAM; a threshold of 0 lets everything pass.
    """
    rows = torch.arange(len(drafts.scores), device=drafts.scores.device)
    if filters.pred_iou_thresh > 0:
        rows = rows[drafts.scores > filters.pred_iou_thresh]
    return rows[_first_of_each(drafts.identity[rows])]


def gate(
    drafts: Drafts, prompts: Prompts, frame: Frame, view: View, filters: Filters, clock: Clock
) -> Iterator[Masks]:
    """Yield the drafts that pass as masks, a bounded number at a time.

    prompts: P rows, view px, that the drafts answer. Only drafts with a sufficient score are
    drawn at all.
    """
    rows = promising(drafts, filters)
    height, width = view.size
    for some in torch.split(rows, max(1, WORKING_SET // (4 * height * width))):
        with clock.stage("decode"):
            logits = drafts.draw(some)
        of = drafts.prompt[some].cpu()
        scores, levels = drafts.scores[some].cpu(), drafts.level[some].cpu()
        decoded = Decoded(logits, scores, levels, prompts[of], frame)
        with clock.stage("select"):
            masks = accept(decoded, view, filters)
        yield masks


def accept(decoded: Decoded, view: View, filters: Filters) -> Masks:
    """Return the decoded masks that are stable and not cut off by a crop's edge.

    A stability must reach its threshold, as in SAM; a threshold of 0 lets everything pass.
    """
    logits = decoded.frame.to_view(decoded.logits)
    stable = ops.stability(logits, filters.stability_score_offset)
    keep = torch.arange(len(logits), device=logits.device)
    if filters.stability_score_thresh > 0:
        keep = keep[stable >= filters.stability_score_thresh]
    binary = logits[keep] > 0
    x, y = view.box[:2]
    boxes = ops.mask_to_box(binary).float() + logits.new_tensor([x, y, x, y])
    whole = ~ops.cut_off(boxes, view.box, view.image_size)
    keep, binary, boxes = keep[whole], binary[whole], boxes[whole]
    kept = decoded[keep.cpu()] if keep.device.type == "cpu" else _on_host(decoded, keep)
    segments = Segments(
        rles=rle.encode(binary, (x, y), view.image_size),
        boxes=boxes.cpu(),
        scores=kept.scores,
        stability=stable[keep].cpu(),
        levels=kept.levels,
        prompts=kept.prompts.moved((x, y)),
        crops=torch.tensor([view.box] * len(keep), dtype=torch.int64).reshape(-1, 4),
    )
    return Masks(kept, segments)


def _on_host(decoded: Decoded, keep: Tensor) -> Decoded:
    """Rows of a record whose logits lie on an accelerator and all else on the host."""
    logits, host = decoded.logits[keep], keep.cpu()
    rest = decoded.scores[host], decoded.levels[host], decoded.prompts[host]
    return Decoded(logits, *rest, decoded.frame)


def _first_of_each(identity: Tensor) -> Tensor:
    """Positions of the first row of every distinct number, ascending."""
    _, group = torch.unique(identity, return_inverse=True)
    positions = torch.arange(len(identity), device=identity.device)
    first = positions.new_full((int(group.max()) + 1 if len(group) else 0,), len(identity))
    return first.scatter_reduce(0, group, positions, "amin").sort().values
