"""Floating-point operations of a case, and how many per second this machine can do."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from inspect import unwrap

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode, addmm_flop, baddbmm_flop

from everything.benchmark.types import BenchmarkCase
from everything.core.stage_timer import StageTimer
from everything.kernels import loader
from everything.pipeline.adaptive_batch_size import is_out_of_memory

_SIDE, _TRIES = 2048, 5
# torch counts products that make a new tensor, but not those that add to one in place.
_IN_PLACE = {
    torch.ops.aten.addmm_: unwrap(addmm_flop),
    torch.ops.aten.baddbmm_: unwrap(baddbmm_flop),
}


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one image, in all and by stage; a multiply-add counts as two."""

    total: int
    by_stage: dict[str, int]


def work_of(case: BenchmarkCase, pixels: NDArray[np.uint8]) -> Work | None:
    """Count the matrix products and convolutions of an image, as torch counts them.

    The compiled kernels, which torch cannot count, are replaced by torch's operations meanwhile.

    Args:
        case: The case.
        pixels: The image, uint8 (H, W, 3) RGB.

    Returns:
        The operations, or None if memory is not enough.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_IN_PLACE)
    by_stage: Counter[str] = Counter()
    timer = _CountingTimer(counter, by_stage)
    try:
        with loader.without_kernels(), counter, timer.stage("other"):
            case.run(pixels, timer)
    except Exception as error:
        if is_out_of_memory(error):
            return None
        raise
    return Work(sum(by_stage.values()), dict(by_stage))


def products_per_second(device: torch.device) -> float:
    """Return the operations/s of a large float32 matrix product on a device, the best of a few."""
    a, b = (torch.ones(_SIDE, _SIDE, device=device) for _ in range(2))
    best = min(_seconds(a, b) for _ in range(_TRIES))
    return 2 * _SIDE**3 / best


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    began = time.perf_counter()
    float((a @ b)[0, 0])  # waits for a GPU
    return time.perf_counter() - began


class _CountingTimer(StageTimer):
    """A timer that also counts the operations of each stage."""

    def __init__(self, counter: FlopCounterMode, by_stage: Counter[str]) -> None:
        super().__init__()
        self._counter, self._by_stage, self._seen = counter, by_stage, 0

    def _account(self) -> None:
        total = int(self._counter.get_total_flops())
        if self._open:
            self._by_stage[self._open[-1]] += total - self._seen
        self._seen = total
        super()._account()
