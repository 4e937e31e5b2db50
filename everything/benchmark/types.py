"""Types of a benchmark: what a case is, how it is named and run."""

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

OWN_PROGRAM = "everything"
BOXES = "boxes-"  # boxes-50: fifty box prompts, one mask each, as the survey's Table 3 and Fig. 16

# This program's own other modes, which are compared like other programs: the settings that each
# changes in a recipe.
OWN_MODES: dict[str, dict[str, dict[str, object]]] = {
    "plain": {"decoding": {"decoder": "plain"}},
    "fp32": {"compute": {"precision": "fp32"}},
    "bf16": {"compute": {"precision": "bf16"}},
    "fp16": {"compute": {"precision": "fp16"}},
    "compile": {"compute": {"compile": True}},
    "torch": {"compute": {"kernels": "torch"}},
}
# NAME+malloc: in a process whose glibc keeps freed memory instead of returning it to the system,
# which can take half of a program's time.
MALLOC_SUFFIX = "+malloc"
MALLOC_ENVIRONMENT = {
    "MALLOC_TOP_PAD_": str(2**30),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}

Run = Callable[[NDArray[np.uint8], StageTimer], list[Rle]]
Build = Callable[[Recipe], Pipeline]


class Key(NamedTuple):
    """Names a case.

    Args:
        variant: Name of the variant.
        sampler: Name of the sampler, or boxes-N.
        by: Program: "everything", a reference tool or one of OWN_MODES, each also with "+malloc".
    """

    variant: str
    sampler: str
    by: str = OWN_PROGRAM

    @property
    def program(self) -> str:
        """The program: `by` without "+malloc"."""
        return self.by.removesuffix(MALLOC_SUFFIX)

    @property
    def is_own(self) -> bool:
        """Whether it is this program, in any mode."""
        return self.program == OWN_PROGRAM or self.program in OWN_MODES

    def __str__(self) -> str:
        return f"{self.variant}, {self.sampler}" + (
            "" if self.by == OWN_PROGRAM else f", {self.by}"
        )


@dataclass(frozen=True)
class BenchmarkCase:
    """A case that is loaded.

    Args:
        key: Names it.
        run: Segments pixels, uint8 (H, W, 3) RGB; its timer receives stages and counts.
    """

    key: Key
    run: Run
