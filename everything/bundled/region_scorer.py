"""The scorer: how good a region is, and how likely a click in it means just this region."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.click_regions import PLACE
from everything.bundled.region_features import FEATURES

HIDDEN = 32
SPREAD = 5.0  # standard deviations beyond which a feature says nothing more


class RegionScores(NamedTuple):
    """What the scorer says of N regions.

    quality: float32 (N,), logit of the IoU with the best segment of any annotator. vote: float32
    (N,); of several regions, the softmax of their votes says which one is meant. hidden: float32
    (N, 32), for `Scorer.clicked`.
    """

    quality: Tensor
    vote: Tensor
    hidden: Tensor


class Scorer(nn.Module):
    """Two hidden layers over a region's features, brought to mean 0 and deviation 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FEATURES)))
        self.register_buffer("deviation", torch.ones(len(FEATURES)))
        self.first = nn.Linear(len(FEATURES), HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, 2)
        self.place = nn.Linear(len(PLACE), HIDDEN)
        self.region = nn.Linear(HIDDEN, HIDDEN)
        self.click = nn.Linear(HIDDEN, 1)

    def forward(self, features: Tensor) -> RegionScores:
        """Return the scores of regions with features float32 (N, F)."""
        x = ((features - self.mean) / self.deviation).clamp(-SPREAD, SPREAD)
        hidden = F.relu(self.second(F.relu(self.first(x))))
        quality, vote = self.last(hidden).unbind(1)
        return RegionScores(quality, vote, hidden)

    def clicked(self, region_scores: RegionScores, nodes: Tensor, place: Tensor) -> Tensor:
        """Return the votes float32 (C, D) of regions around C clicks, which count where in a
        region the click lies. nodes: int64 (C, D). place: float32 (C, D, 3), see Clicks."""
        x = F.relu(self.region(region_scores.hidden)[nodes] + self.place(place))
        votes: Tensor = region_scores.vote[nodes] + self.click(x)[..., 0]
        return votes
