"""The number of prompts per decoder batch, halved where memory runs out."""

from __future__ import annotations

import logging

import torch

from everything.core.out_of_memory import is_out_of_memory

__all__ = ["AdaptiveBatchSize", "is_out_of_memory"]
_log = logging.getLogger(__name__)


class AdaptiveBatchSize:
    """A batch size that is halved, for good, each time memory runs out."""

    def __init__(self, points_per_batch: int) -> None:
        self.points_per_batch = points_per_batch

    def survives(self, error: BaseException) -> bool:
        """Halve the batch size after an error and return whether to try again.

        False for errors of another kind, and if one prompt alone is too many.
        """
        if not is_out_of_memory(error) or self.points_per_batch == 1:
            return False
        self.points_per_batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning(
            "out of memory: points_per_batch is %d from here on; start with --points-per-batch %d",
            self.points_per_batch,
            self.points_per_batch,
        )
        return True
