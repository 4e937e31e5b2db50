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
from everything.training.region_targets import Judged

EPOCHS, STEPS = 50, 3000  # of one image; whichever ends first
RATE = 4e-3
NEVER = -1e4  # vote for what is not there
SHARPNESS = 0.05  # a region that overlaps what was meant by so much less is 1/e as likely it


def fit_scorer(judged: Sequence[Judged], seed: int) -> Scorer:
    """Return a scorer fitted to images, one step for each at a time.

    Quality is fitted to the IoU with the best segment of any annotator (cross-entropy, which
    calibrates). Votes are fitted so that the softmax over the regions around a click is that of
    their IoU with the segment that was meant. Raises ValueError if there are no images.
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
    steps = min(STEPS, EPOCHS * len(lessons))
    chosen = (i for _ in range(EPOCHS) for i in order.permutation(len(lessons)))
    for step, i in enumerate(islice(chosen, steps)):
        optimiser.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        _loss(scorer, lessons[i]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return scorer.eval()


@dataclass(frozen=True)
class _Lesson:
    """One image: features float32 (N, F), best IoU float32 (N,), clicks as in Clicks, and which
    of the regions around each is meant, float32 (C, D), rows that sum to 1."""

    features: Tensor
    best: Tensor
    nodes: Tensor
    ended: Tensor
    place: Tensor
    meant: Tensor


def _lesson(judged: Judged) -> _Lesson:
    nodes, new = judged.clicks.nodes, judged.clicks.new
    overlap = judged.overlap[nodes, judged.meant[:, None]]
    likely = np.where(new, np.exp((overlap - overlap.max(1, keepdims=True)) / SHARPNESS), 0)
    return _Lesson(
        torch.from_numpy(judged.features),
        torch.from_numpy(judged.overlap.max(1)).float(),
        torch.from_numpy(nodes),
        torch.from_numpy(~new),
        torch.from_numpy(judged.clicks.place),
        torch.from_numpy(likely / likely.sum(1, keepdims=True)).float(),
    )


def _loss(scorer: Scorer, lesson: _Lesson) -> Tensor:
    opinion = scorer(lesson.features)
    quality = F.binary_cross_entropy_with_logits(opinion.quality, lesson.best)
    clicked = scorer.clicked(opinion, lesson.nodes, lesson.place)
    # Votes without and with the place of the click, for several points and for one.
    for vote in (opinion.vote[lesson.nodes], clicked):
        said = torch.log_softmax(vote.masked_fill(lesson.ended, NEVER), 1)
        quality = quality - (lesson.meant * said).sum(1).mean()
    return quality
