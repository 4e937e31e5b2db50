"""Fitting of the scorer to images whose regions are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from everything.bundled.region_scorer import Scorer
from everything.training.region_targets import ScoredRegions

EPOCHS, STEPS = 50, 3000  # of one image; whichever ends first
RATE = 4e-3
NEVER = -1e4  # vote for what is not there
SHARPNESS = 0.05  # a region that overlaps what was meant by so much less is 1/e as likely it


def fit_scorer(scored: Sequence[ScoredRegions], seed: int) -> Scorer:
    """Return a scorer fitted to images, one step for each at a time.

    Quality is fitted to the IoU with the best segment of any annotator (cross-entropy, which
    calibrates). Votes are fitted so that the softmax over the regions around a click is that of
    their IoU with the segment that was meant. Raises ValueError if there are no images.
    """
    if not scored:
        raise ValueError("there are no photos to fit the scorer to")
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    features = torch.cat([torch.from_numpy(j.features) for j in scored])
    scorer = Scorer()
    scorer.mean.copy_(features.mean(0))
    scorer.deviation.copy_(features.std(0, correction=0).clamp(min=1e-6))
    examples = [_example(j) for j in scored]
    optimiser = torch.optim.AdamW(scorer.parameters(), lr=RATE, weight_decay=0.05)
    steps = min(STEPS, EPOCHS * len(examples))
    chosen = (i for _ in range(EPOCHS) for i in order.permutation(len(examples)))
    for step, i in enumerate(islice(chosen, steps)):
        optimiser.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        _loss(scorer, examples[i]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return scorer.eval()


@dataclass(frozen=True)
class _Example:
    """One image: features float32 (N, F), best IoU float32 (N,), clicks as in Clicks, and which
    of the regions around each is meant, float32 (C, D), rows that sum to 1."""

    features: Tensor
    best: Tensor
    nodes: Tensor
    ended: Tensor
    place: Tensor
    meant: Tensor


def _example(scored: ScoredRegions) -> _Example:
    nodes, new = scored.clicks.nodes, scored.clicks.new
    overlap = scored.overlap[nodes, scored.meant[:, None]]
    likely = np.where(new, np.exp((overlap - overlap.max(1, keepdims=True)) / SHARPNESS), 0)
    return _Example(
        torch.from_numpy(scored.features),
        torch.from_numpy(scored.overlap.max(1)).float(),
        torch.from_numpy(nodes),
        torch.from_numpy(~new),
        torch.from_numpy(scored.clicks.place),
        torch.from_numpy(likely / likely.sum(1, keepdims=True)).float(),
    )


def _loss(scorer: Scorer, example: _Example) -> Tensor:
    region_scores = scorer(example.features)
    quality = F.binary_cross_entropy_with_logits(region_scores.quality, example.best)
    clicked = scorer.clicked(region_scores, example.nodes, example.place)
    # Votes without and with the place of the click, for several points and for one.
    for vote in (region_scores.vote[example.nodes], clicked):
        said = torch.log_softmax(vote.masked_fill(example.ended, NEVER), 1)
        quality = quality - (example.meant * said).sum(1).mean()
    return quality
