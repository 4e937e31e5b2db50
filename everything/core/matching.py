"""One-to-one matching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def one_to_one(agreement: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Match rows and columns greedily, best agreement first.

    Args:
        agreement: (N, M), for example IoU.
        least: The minimum agreement of a pair.

    Returns:
        Pairs of a row and a column, best first; each row and column is in at most one pair.
    """
    found: list[tuple[int, int]] = []
    rows, columns = np.nonzero(agreement >= least)
    taken: tuple[set[int], set[int]] = (set(), set())
    for pick in np.argsort(-agreement[rows, columns], kind="stable").tolist():
        i, j = int(rows[pick]), int(columns[pick])
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            found.append((i, j))
    return found
