"""The scorer: how good a region is, and how likely a click in it means just this region."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everything.embedded.features import FEATURES

HIDDEN = 32
SPREAD = 5.0  # standard deviations beyond which a feature says nothing more


class Opinion(NamedTuple):
    """What the scorer says of N regions.

    quality: float32 (N,), logit of the IoU with the best segment of any annotator. vote: float32
    (N,); of the regions that contain a click, the softmax of their votes says which one is meant.
    """

    quality: Tensor
    vote: Tensor


class Scorer(nn.Module):
    """Two hidden layers over a region's features, brought to mean 0 and deviation 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int = len(FEATURES)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.first = nn.Linear(features, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, 2)

    def forward(self, features: Tensor) -> Opinion:
        """Return the opinion on regions with features float32 (N, F)."""
        x = ((features - self.mean) / self.deviation).clamp(-SPREAD, SPREAD)
        x = F.relu(self.second(F.relu(self.first(x))))
        quality, vote = self.last(x).unbind(1)
        return Opinion(quality, vote)
