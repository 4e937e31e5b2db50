"""From points and labels to the prompt tokens of SAM's prompt encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from everything.prompts import BOTTOM_RIGHT, TOP_LEFT


def encode_sam(
    prompt_encoder: nn.Module, points: Tensor, labels: Tensor, masks: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sparse (P, T', C) and dense (P, C, h, w) embeddings of P prompts.

    points (P, K, 2) xy, px of the prompt encoder's frame, in the precision they should be scaled
    with, on any device. labels int64 (P, K): 1 inside,
    0 outside, -1 padding, 2 and 3 a box's corners. masks (P, 1, 4 h, 4 w): logits of mask prompts.
    The prompt encoder does its own maths: half a pixel, the padding point of prompts without a
    box. Raises ValueError if only some of the prompts have a box, or its corners lie in different
    columns: the prompt encoder takes one layout at a time.
    """
    encoder: Any = prompt_encoder
    if points.shape != (*labels.shape, 2):
        raise ValueError(
            f"points {tuple(points.shape)} and labels {tuple(labels.shape)} "
            f"must be (P, K, 2) and (P, K)"
        )
    device = next(encoder.parameters()).device
    points, labels = points.to(device), labels.to(device)
    corners = box_columns(labels)
    others = [i for i in range(labels.shape[1]) if i not in corners]
    clicks = (points[:, others], labels[:, others]) if others else None
    boxes = points[:, corners].flatten(1) if corners else None
    sparse, dense = encoder(points=clicks, boxes=boxes, masks=masks)
    return sparse, dense


def box_columns(labels: Tensor) -> list[int]:
    """Return the two columns of labels (P, K) that are the box's corners, or [] without a box.

    Raises ValueError if the rows differ.
    """
    if len(labels) == 0:
        return []
    corner = (labels == TOP_LEFT) | (labels == BOTTOM_RIGHT)
    columns = corner.any(0).nonzero()[:, 0].tolist()
    wanted = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=labels.device)
    if columns and not (len(columns) == 2 and bool((labels[:, columns] == wanted).all())):
        raise ValueError(
            "of prompts decoded together, all have one box, its corners (labels 2 and 3) in the "
            "same two columns, or none has: decode the others separately"
        )
    return columns
