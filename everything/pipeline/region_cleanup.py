"""Clean-up of masks: small holes are filled, small islands removed.

All of it on runs of pixels down the columns, as COCO codes masks: what it takes depends on the
length of a mask's outline, not on its area or the photo's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from everything.core import rle
from everything.core.geometry import Size
from everything.masks.segments import Segments
from everything.pipeline.nms import box_nms

Runs = NDArray[np.int64]  # (N, 2): where each begins and ends, counted down the columns; ascending


def tidy(segments: Segments, min_area: int, nms_thresh: float, size: Size) -> Segments:
    """Return the segments without holes or islands below `min_area` px, duplicates removed.

    A box NMS at `nms_thresh` follows in which untouched masks come first; scores and stability
    stay as they were found (SAM's min_mask_region_area). size: (H, W) of the image.
    """
    rles, boxes = list(segments.rles), segments.boxes.clone()
    untouched = torch.ones(len(segments))
    for row, code in enumerate(segments.rles):
        runs = rle.runs(code)
        filled = without_holes(runs, min_area, size)
        clean = without_islands(filled, min_area, size)
        if clean is runs:
            continue
        untouched[row] = 0
        rles[row] = rle.encode_edges(clean.reshape(-1), size)
        boxes[row] = torch.tensor(_box(clean, size[0]), dtype=torch.float32)
    cleaned = replace(segments, rles=rles, boxes=boxes)
    return cleaned[box_nms(boxes, untouched, nms_thresh)]


def without_holes(runs: Runs, min_area: int, size: Size) -> Runs:
    """Return the runs of a mask with every hole below `min_area` px filled, themselves if there is
    none. A hole is an 8-connected component of the background, the outside included, as in SAM."""
    edges = np.concatenate([[0], runs.reshape(-1), [size[0] * size[1]]]).reshape(-1, 2)
    background = _in_columns(edges[edges[:, 0] < edges[:, 1]], size[0])
    labels, areas = _components(background, size[0])
    small = areas < min_area
    return _joined(runs, background[small[labels]]) if small.any() else runs


def without_islands(runs: Runs, min_area: int, size: Size) -> Runs:
    """Return the runs of a mask without 8-connected components below `min_area` px, themselves if
    there is none; if all are below, the largest stays."""
    parts = _in_columns(runs, size[0])
    labels, areas = _components(parts, size[0])
    small = areas < min_area
    if not small.any():
        return runs
    if small.all():
        small[areas.argmax()] = False
    return _joined(parts[~small[labels]], parts[:0])


def _in_columns(runs: Runs, height: int) -> Runs:
    """Runs cut where a column ends."""
    first, last = runs[:, 0] // height, (runs[:, 1] - 1) // height
    count = last - first + 1
    of = np.repeat(np.arange(len(runs)), count)
    column = first[of] + np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    ends = np.maximum(runs[of, 0], column * height), np.minimum(runs[of, 1], (column + 1) * height)
    return np.stack(ends, 1)


def _joined(runs: Runs, others: Runs) -> Runs:
    """Runs that do not overlap, with those that touch made one."""
    edges = np.sort(np.concatenate([runs, others]).reshape(-1))
    met = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    return np.delete(edges, np.concatenate([met, met + 1])).reshape(-1, 2)


def _components(runs: Runs, height: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Which 8-connected component each run, within one column, belongs to; their areas, px."""
    # A run meets those of the next column that begin no later than one below its end, and end no
    # earlier than one above its beginning.
    column = (runs[:, 0] // height + 1) * height
    begins, ends = runs[:, 0] + height, runs[:, 1] + height
    low = np.searchsorted(runs[:, 1], np.maximum(begins, column + 1))
    high = np.searchsorted(runs[:, 0], np.minimum(ends, column + height - 1), "right")
    count = np.maximum(high - low, 0)
    a = np.repeat(np.arange(len(runs)), count)
    b = np.arange(len(a)) + np.repeat(low - np.cumsum(count) + count, count)
    links = coo_array((np.ones(len(a), np.bool_), (a, b)), shape=(len(runs), len(runs)))
    n, labels = connected_components(links, directed=False)
    lengths = (runs[:, 1] - runs[:, 0]).astype(np.float64)
    return labels, np.bincount(labels, lengths, minlength=n).astype(np.int64)


def _box(runs: Runs, height: int) -> list[int]:
    """Box x0, y0, x1, y1 of runs, inclusive px; zeros without any."""
    if not len(runs):
        return [0, 0, 0, 0]
    parts = _in_columns(runs, height)
    rows, last = parts[:, 0] % height, (parts[:, 1] - 1) % height
    x0, x1 = parts[0, 0] // height, parts[-1, 0] // height
    return [int(x0), int(rows.min()), int(x1), int(last.max())]
