"""What the gate wants to know of a mask at full resolution: stability, box, and its pixels.

On a CPU a mask is brought to full resolution only inside its region of interest: the cells whose
logit exceeds -offset and those that interpolation mixes with them. Everywhere else all logits are
at most -offset, so nothing there is counted or drawn. If a logit comes so close to a cut that
rounding could decide its side, the mask is interpolated whole, as SAM does it, so that the result
is SAM's to the pixel. On other devices whole masks are handled together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything import ops
from everything.view import Frame, Size

ROUNDING = 4e-6  # of the largest logit: generous for two float32 interpolations
WORKING_SET = 64 * 2**20  # bytes of full-resolution logits that are held at a time


@dataclass(frozen=True)
class Patch:
    """A mask's pixels inside a rectangle of the view that holds all of it.

    pixels: bool (h, w). origin: (x, y) of the rectangle, view px.
    """

    pixels: NDArray[np.bool_]
    origin: tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """N masks measured.

    stability: float32 (N,), NaN where nothing is near the cut. areas: int64 (N,) px. boxes:
    float32 (N, 4) xyxy inclusive, view px; zeros for an empty mask.
    """

    stability: Tensor
    areas: Tensor
    boxes: Tensor
    patches: list[Patch]


def measure(logits: Tensor, frame: Frame, offset: float) -> Measured:
    """Return the measures of masks given as logits float32 (N, hl, wl) over the frame's canvas.

    offset: how far the cut is moved for the stability (SAM's stability_score_offset).
    """
    # Bicubic interpolation overshoots, so that a region of interest would not hold all of it.
    if logits.device.type == "cpu" and frame.interpolation == "bilinear":
        parts = _one_by_one(logits, frame, offset)
    else:
        height, width = frame.view
        together = max(1, WORKING_SET // (4 * height * width))
        parts = [_whole(some, frame, offset) for some in torch.split(logits, together)]
    none = Measured(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), [])
    return Measured(
        torch.cat([none.stability, *(part.stability for part in parts)]),
        torch.cat([none.areas, *(part.areas for part in parts)]),
        torch.cat([none.boxes, *(part.boxes for part in parts)]),
        [patch for part in parts for patch in part.patches],
    )


def _whole(logits: Tensor, frame: Frame, offset: float) -> Measured:
    full = frame.to_view(logits)
    masks = full > 0
    areas, boxes = masks.flatten(1).sum(1), ops.mask_to_box(masks).float()
    patches = [Patch(mask, (0, 0)) for mask in masks.cpu().numpy()]
    return Measured(ops.stability(full, offset).cpu(), areas.cpu(), boxes.cpu(), patches)


def _one_by_one(logits: Tensor, frame: Frame, offset: float) -> list[Measured]:
    to_view = Interpolation.of(frame, (logits.shape[1], logits.shape[2]))
    parts = []
    for mask in logits:
        near = mask.numpy() > -offset
        some = near.any()
        part, origin = to_view.region(mask, _box(near, (0, 0))) if some else (mask[:0, :0], (0, 0))
        margin = 0.0 if to_view.is_identity else ROUNDING * float(mask.abs().max())
        measured = _measured(part, origin, offset, margin)
        if measured is None:
            measured = _measured(frame.to_view(mask[None])[0], (0, 0), offset, 0.0)
            assert measured is not None
        parts.append(measured)
    return parts


def _measured(
    part: Tensor, origin: tuple[int, int], offset: float, margin: float
) -> Measured | None:
    """A mask of which `part` (h, w), at `origin` (x, y) of the view, holds all above -offset, or
    None if a logit is within `margin` of a cut. Counts whole-array comparisons, which is what a
    large mask costs: numpy's are several times as fast as torch's."""
    full = part.numpy()
    counts = []
    for cut in (-offset, 0.0, offset):
        pixels = full > cut + margin
        counts.append(int(np.count_nonzero(pixels)))
        if cut == 0.0:
            mask = pixels
        if margin and np.count_nonzero(full > cut - margin) != counts[-1]:
            return None
    outer, area, inner = counts
    stability = torch.tensor([inner], dtype=torch.int32) / outer
    box = _box(mask, origin) if area else [0, 0, 0, 0]
    boxes = torch.tensor([box], dtype=torch.float32)
    return Measured(stability, torch.tensor([area]), boxes, [Patch(mask, origin)])


def _box(mask: NDArray[np.bool_], origin: tuple[int, int]) -> list[int]:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x, y = origin
    return [x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]), y + int(rows[-1])]


@dataclass(frozen=True)
class Interpolation:
    """A frame's `to_view` for logits of one size, as matrices: rows @ logits @ columns.T.

    Interpolation is linear and works on the axes one after the other, so any part of the result
    needs only the matching parts of both matrices. Equal to `to_view` up to float rounding.
    rows: (h, hl). columns: (w, wl). The reaches tell, for a row of `rows` or `columns` and for a
    column of it, the first and the last entry that is not zero.
    """

    rows: Tensor
    columns: Tensor
    reach: tuple[_Reach, _Reach]
    is_identity: bool

    @staticmethod
    def of(frame: Frame, low: Size) -> Interpolation:
        """Return the matrices for logits of (hl, wl)."""
        return _interpolation(frame, low)

    def region(self, logits: Tensor, box: list[int]) -> tuple[Tensor, tuple[int, int]]:
        """Return the full-resolution part that cells inside `box` (x0, y0, x1, y1 inclusive) of
        logits (hl, wl) have a share in, and its (x, y) in the view."""
        x0, y0, x1, y1 = box
        down, across = self.reach
        top, bottom = down.touched(y0, y1)
        left, right = across.touched(x0, x1)
        if bottom < top or right < left:
            return logits.new_zeros(0, 0), (0, 0)
        a0, a1 = down.sources(top, bottom)
        b0, b1 = across.sources(left, right)
        cells = logits[a0 : a1 + 1, b0 : b1 + 1]
        if self.is_identity:
            return cells, (left, top)
        rows = self.rows[top : bottom + 1, a0 : a1 + 1]
        columns = self.columns[left : right + 1, b0 : b1 + 1]
        return rows @ cells @ columns.T, (left, top)


@dataclass(frozen=True)
class _Reach:
    """Of an interpolation matrix (n, m): which m each n draws on, and which n each m shares in."""

    first_source: list[int]
    last_source: list[int]
    first_touched: list[int]
    last_touched: list[int]

    def touched(self, start: int, end: int) -> tuple[int, int]:
        return min(self.first_touched[start : end + 1]), max(self.last_touched[start : end + 1])

    def sources(self, start: int, end: int) -> tuple[int, int]:
        return self.first_source[start], self.last_source[end]


@lru_cache(maxsize=8)
def _interpolation(frame: Frame, low: Size) -> Interpolation:
    (rows, columns) = (_matrix(frame, low, axis) for axis in (0, 1))
    same = low == frame.view and all(torch.equal(m, torch.eye(len(m))) for m in (rows, columns))
    return Interpolation(rows, columns, (_reach(rows), _reach(columns)), same)


def _matrix(frame: Frame, low: Size, axis: int) -> Tensor:
    """What `to_view` does along one axis, found by passing every unit vector through it."""
    flat = frame.along(axis)
    unit = torch.eye(low[axis], dtype=torch.float64)[:, :, None]
    return flat.to_view(unit)[:, :, 0].T.float().contiguous()


def _reach(matrix: Tensor) -> _Reach:
    used = matrix != 0
    n = len(matrix)
    first, last = ops.extent(used)
    first_touched, last_touched = ops.extent(used.T)
    shares = used.any(0)
    return _Reach(
        first.tolist(),
        last.tolist(),
        torch.where(shares, first_touched, n).tolist(),
        torch.where(shares, last_touched, -1).tolist(),
    )
