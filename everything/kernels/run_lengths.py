"""COCO's run-length text of many masks at a time, by the compiled kernels if they were built."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.geometry import Size
from everything.core.rle import Rle
from everything.kernels import loader


def encode(edges: Sequence[NDArray[np.int64]], size: Size) -> list[Rle]:
    """Return the codes of masks of an image of (H, W) px.

    Args:
        edges: For each mask where its runs of ones begin and end, in turn, int64 (2 N,), ascending,
            counted down the columns. A run may end where the next one begins.
        size: (H, W) of the image.
    """
    if not edges:
        return []
    return encode_flat(np.concatenate(edges), np.array([len(x) for x in edges]), size)


def encode_flat(edges: NDArray[np.int64], counts: NDArray[np.int64], size: Size) -> list[Rle]:
    """Return the codes of masks of an image of (H, W) px.

    Args:
        edges: int64 (E,), the edges of all masks, one mask after the other: see `encode`.
        counts: int64 (M,), edges of each mask; their sum is E.
        size: (H, W) of the image.

    Raises:
        ValueError: The counts do not add up, or edges are not ascending or not in the image.
    """
    height, width = size
    strings = getattr(loader.kernels, "strings", None)  # older builds of the kernels have none
    if strings is None:
        each = np.split(edges, np.cumsum(counts)[:-1])
        return [rle.encode_columns(part, size) for part in each]
    arrays = [np.ascontiguousarray(x, np.int64) for x in (edges, counts)]
    texts: list[str] = strings(len(counts), len(edges), height * width, arrays)
    return [{"size": [height, width], "counts": text} for text in texts]
