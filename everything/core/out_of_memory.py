"""Running out of memory: how it is recognised, and lots that shrink where it happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

_REFUSALS = ("can't allocate memory", "not enough memory", "out of memory")  # in RuntimeError
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the machine or device ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(r in str(error).lower() for r in _REFUSALS)


class Lots:
    """Work that a device does in lots; their size is halved, for good, where memory runs out.

    Args:
        what: The things, for the warning: "prompts scored".
        size: How many things a lot has at first; at least one.
    """

    def __init__(self, what: str, size: int) -> None:
        self.what, self.size = what, max(1, size)

    def survives(self, error: BaseException, tried: int) -> bool:
        """Halve the size after a lot of so many things failed; return whether to try again.

        False for errors of another kind, and if one thing alone is too many.
        """
        if not is_out_of_memory(error) or tried == 1:
            return False
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning("out of memory: %d %s at a time from here on", self.size, self.what)
        return True

    def each(self, count: int, most: int, step: Callable[[slice], _Result]) -> Iterator[_Result]:
        """Yield the results of a step for `count` things, lot by lot, in order.

        most: things per lot that are expected to fit.
        """
        done = 0
        while done < count:
            lot = slice(done, min(count, done + self.size, done + max(1, most)))
            try:
                found = step(lot)
            except Exception as error:
                if not self.survives(error, lot.stop - done):
                    raise
                continue
            done = lot.stop
            yield found
