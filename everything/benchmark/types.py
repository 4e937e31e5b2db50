"""Contenders: a variant with a sampler, by this program or by a peer, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from everything.config import Recipe
from everything.core.rle import Rle
from everything.core.stage_timer import StageTimer
from everything.pipeline.pipeline import Pipeline

OURS = "everything"
BOXES = "boxes-"  # boxes-50: fifty box prompts, one mask each, as the survey's Table 3 and Fig. 16

# This program's own other ways, which are compared like peers: what each changes of a recipe.
WAYS: dict[str, dict[str, dict[str, object]]] = {
    "plain": {"decoding": {"decoder": "plain"}},
    "fp32": {"compute": {"precision": "fp32"}},
    "bf16": {"compute": {"precision": "bf16"}},
    "fp16": {"compute": {"precision": "fp16"}},
    "compile": {"compute": {"compile": True}},
    "torch": {"compute": {"kernels": "torch"}},
}
# NAME+malloc: in a process whose glibc keeps memory instead of giving it back to the system, which
# can be half of a program's time.
TUNED = "+malloc"
MALLOC = {
    "MALLOC_TOP_PAD_": str(2**30),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}

Run = Callable[[NDArray[np.uint8], StageTimer], list[Rle]]
Build = Callable[[Recipe], Pipeline]


class Key(NamedTuple):
    """What a row of the report is about. by: "everything", a peer's name or one of WAYS, each also
    with "+malloc"."""

    variant: str
    sampler: str
    by: str = OURS

    @property
    def program(self) -> str:
        """What is run: `by` without how its memory is had."""
        return self.by.removesuffix(TUNED)

    @property
    def is_ours(self) -> bool:
        """Whether it is this program, in whatever way."""
        return self.program == OURS or self.program in WAYS

    def __str__(self) -> str:
        return f"{self.variant}, {self.sampler}" + ("" if self.by == OURS else f", {self.by}")


@dataclass(frozen=True)
class Contender:
    """run: from pixels, uint8 (H, W, 3) RGB, to masks; its clock receives stages and counts."""

    key: Key
    run: Run
