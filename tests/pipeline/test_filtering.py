"""Which drafts are worth drawing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from everything.config import Filters
from everything.pipeline.filtering import promising


@dataclass
class Drafted:
    """Drafts of which nothing is drawn."""

    scores: Tensor
    identity: Tensor

    @property
    def prompt(self) -> Tensor:
        return torch.arange(len(self.scores))

    @property
    def level(self) -> Tensor:
        return torch.zeros(len(self.scores), dtype=torch.int64)

    def draw(self, rows: Tensor) -> Tensor:
        raise AssertionError(f"{len(rows)} rows are drawn")


def rows(scores: list[float], identity: list[int], threshold: float) -> list[int]:
    candidates = Drafted(torch.tensor(scores), torch.tensor(identity, dtype=torch.int64))
    return promising(candidates, Filters(pred_iou_thresh=threshold)).tolist()


def test_of_equal_masks_the_best_scored_is_drawn() -> None:
    assert rows([0.3, 0.9, 0.5, 0.9, 0.8], [7, 7, 4, 7, 4], 0.2) == [1, 4]


def test_of_equal_scores_the_first_is_drawn_and_rows_stay_in_order() -> None:
    assert rows([0.5, 0.6, 0.5, 0.6], [2, 1, 2, 0], 0.0) == [0, 1, 3]


def test_a_score_must_exceed_the_threshold_unless_that_is_zero() -> None:
    assert rows([0.0, 0.5, 0.6], [0, 1, 2], 0.5) == [2]
    assert rows([0.0, 0.5, 0.6], [0, 1, 2], 0.0) == [0, 1, 2]
    assert rows([], [], 0.5) == []
