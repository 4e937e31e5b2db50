"""What the boundary network should answer, from the label maps of all annotators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from everything.bundled.boundary_net import DIRECTIONS, DISTANCES, Dense

BESIDE = 0.45  # how much of a boundary there is one cell beside it
# Neighbours that are apart are rare at short distances and must weigh more.
APART_WEIGHT = {1: 8.0, 2: 6.0, 4: 4.0, 8: 3.0, 16: 2.0, 32: 1.5}
BOUNDARY_WEIGHT = 4.0


def boundary_target(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of the annotators who know a place saw a boundary there, float32 (h, w) in
    [0, 1], and where anybody knows, float32 (h, w).

    labels: int64 (K, h, w), 0 unknown. Both cells along a change of labels are boundary. A cell
    beside counts less: annotators who mean the same contour draw it a pixel apart, and without
    this tolerance their agreement would look like doubt.
    """
    known = labels > 0
    edge = torch.zeros(labels.shape, device=labels.device)
    down = _apart(labels[:, 1:], labels[:, :-1])
    right = _apart(labels[:, :, 1:], labels[:, :, :-1])
    edge[:, 1:] += down
    edge[:, :-1] += down
    edge[:, :, 1:] += right
    edge[:, :, :-1] += right
    edge = edge.clamp(max=1)
    edge = torch.maximum(edge, BESIDE * F.max_pool2d(edge, 3, stride=1, padding=1))
    count = known.sum(0)
    return (edge * known).sum(0) / count.clamp(min=1), (count > 0).float()


def affinity_target(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many annotators gave two cells one region, float32 (24, h, w) in [0, 1], and
    where anybody knows both, float32 (24, h, w). Channels: DISTANCES x DIRECTIONS.

    labels: int64 (K, h, w), 0 unknown.
    """
    height, width = labels.shape[1:]
    target = labels.new_zeros(
        (len(DISTANCES) * len(DIRECTIONS), height, width), dtype=torch.float32
    )
    known = torch.zeros_like(target)
    offsets = [(dy * n, dx * n) for n in DISTANCES for dy, dx in DIRECTIONS]
    for channel, (dy, dx) in enumerate(offsets):
        left, right = max(0, -dx), width - max(0, dx)
        if dy >= height or left >= right:
            continue
        here = labels[:, : height - dy, left:right]
        there = labels[:, dy:, left + dx : right + dx]
        both = (here > 0) & (there > 0)
        count = both.sum(0)
        same = ((here == there) & both).sum(0)
        target[channel, : height - dy, left:right] = same / count.clamp(min=1)
        known[channel, : height - dy, left:right] = (count > 0).float()
    return target, known


def dense_loss(dense: Dense, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of boundaries and affinities, two scalars: cross-entropy in which rare
    answers (a boundary, neighbours that are apart) weigh more.

    dense: of one crop (B = 1). labels: int64 (K, h/2, w/2), 0 unknown.
    """
    target, known = boundary_target(labels)
    boundary = _weighted(dense.boundary[0, 0], target, known * (1 + BOUNDARY_WEIGHT * target))
    target, known = affinity_target(labels[:, ::2, ::2])
    weights = target.new_tensor([APART_WEIGHT[n] for n in DISTANCES])
    weights = weights.repeat_interleave(len(DIRECTIONS))
    weight = known * (1 + (weights[:, None, None] - 1) * (1 - target))
    return boundary, _weighted(dense.affinity[0], target, weight)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return ((a != b) & (a > 0) & (b > 0)).float()


def _weighted(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)
