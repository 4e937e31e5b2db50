"""Fitting of the scorer, on photos that the boundary network has not seen in its training.

On photos that it knows by heart the network's boundaries are too good, and a scorer fitted there
would believe them too much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from everything.embedded.picks import chains
from everything.embedded.scorer import Scorer
from everything.training.regions import Judged

EPOCHS = 50
RATE = 4e-3
SHARPNESS = 0.05  # a region that overlaps what was meant by so much less is 1/e as likely it


def fit_scorer(judged: Sequence[Judged], seed: int) -> Scorer:
    """Return a scorer fitted to photos, one step for each at a time.

    Quality is fitted to the IoU with the best segment of any annotator (cross-entropy, which
    calibrates). Votes are fitted so that the softmax over the regions around a click is that of
    their IoU with the segment that was meant. Raises ValueError if there are no photos.
    """
    if not judged:
        raise ValueError("there are no photos to fit the scorer to")
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    features = torch.cat([torch.from_numpy(j.features) for j in judged])
    scorer = Scorer()
    scorer.mean.copy_(features.mean(0))
    scorer.deviation.copy_(features.std(0, correction=0).clamp(min=1e-6))
    lessons = [_lesson(j) for j in judged]
    optimiser = torch.optim.AdamW(scorer.parameters(), lr=RATE, weight_decay=0.05)
    steps = EPOCHS * len(lessons)
    chosen = (i for _ in range(EPOCHS) for i in order.permutation(len(lessons)))
    for step, i in enumerate(chosen):
        optimiser.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        _loss(scorer, *lessons[i]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return scorer.eval()


def _lesson(judged: Judged) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (N, F), best IoU (N,), regions around each click (C, D) and which are meant."""
    basins, row = np.unique(judged.clicks[:, 0], return_inverse=True)
    nodes, new = (part[row] for part in chains(judged.regions, basins))
    overlap = judged.overlap[nodes, judged.clicks[:, 1:]]
    likely = np.where(new, np.exp((overlap - overlap.max(1, keepdims=True)) / SHARPNESS), 0)
    return (
        torch.from_numpy(judged.features),
        torch.from_numpy(judged.overlap.max(1)).float(),
        # Where the chain has ended there is no region: the row after the last one.
        torch.from_numpy(np.where(new, nodes, len(judged.features))),
        torch.from_numpy(likely / likely.sum(1, keepdims=True)).float(),
    )


def _loss(scorer: Scorer, features: Tensor, best: Tensor, nodes: Tensor, meant: Tensor) -> Tensor:
    quality, vote = scorer(features)
    none = vote.new_full((1,), -1e4)
    said = torch.log_softmax(torch.cat([vote, none])[nodes], 1)
    return F.binary_cross_entropy_with_logits(quality, best) - (meant * said).sum(1).mean()
