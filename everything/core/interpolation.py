"""A frame's interpolation as matrices, so that any part of the result can be computed alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything.core import mask_ops
from everything.core.device import sent
from everything.core.geometry import Box, Frame, Size


def crossings(logits: Tensor, frame: Frame, rows: Tensor, columns: Tensor) -> Tensor:
    """Return logits at the view's pixels where some rows and columns cross, float32 (N, h, w).

    Args:
        logits: float32 (N, hl, wl) over the frame's canvas.
        frame: The frame of the view.
        rows: int64 (h,), view px.
        columns: int64 (w,), view px.
    """
    to_view = Interpolation.of(frame, (logits.shape[1], logits.shape[2]))
    down, across = to_view.rows[rows], to_view.columns[columns]
    return sent(down, logits.device) @ logits @ sent(across, logits.device).T


@dataclass(frozen=True)
class Interpolation:
    """A frame's `to_view` for logits of one size: rows @ logits @ columns.T.

    Interpolation is linear and separable, so any part of the result needs only the matching parts
    of both matrices. Equal to `to_view` up to float rounding.

    Attributes:
        rows: (h, hl).
        columns: (w, wl).
        reach: For both matrices, the first and last nonzero entry of every row and column.
        bands: Both matrices without their zeros.
    """

    rows: Tensor
    columns: Tensor
    reach: tuple[_Reach, _Reach]
    bands: tuple[Band, Band]

    @staticmethod
    def of(frame: Frame, low: Size) -> Interpolation:
        """Return the matrices for logits of (hl, wl)."""
        return _interpolation(frame, low)

    def area(self, box: Box) -> int:
        """Return the number of view pixels that depend on the logits inside `box`."""
        left, top, right, bottom = self._touched(box)
        return max(0, right + 1 - left) * max(0, bottom + 1 - top)

    def region(self, logits: Tensor, box: Box) -> tuple[Tensor, tuple[int, int]]:
        """Return the part of the view that depends on the logits inside a box.

        Args:
            logits: (hl, wl).
            box: (x0, y0, x1, y1) in cells of the logits, inclusive.

        Returns:
            That part at full resolution, and the (x, y) of its top left pixel in the view.
        """
        left, top, right, bottom = self._touched(box)
        if bottom < top or right < left:
            return logits.new_zeros(0, 0), (0, 0)
        (down, across) = self.reach
        a0, a1 = down.sources(top, bottom)
        b0, b1 = across.sources(left, right)
        rows = self.rows[top : bottom + 1, a0 : a1 + 1]
        columns = self.columns[left : right + 1, b0 : b1 + 1]
        return rows @ logits[a0 : a1 + 1, b0 : b1 + 1] @ columns.T, (left, top)

    def _touched(self, box: Box) -> Box:
        x0, y0, x1, y1 = box
        (down, across) = self.reach
        (top, bottom), (left, right) = down.touched(y0, y1), across.touched(x0, x1)
        return left, top, right, bottom


@dataclass(frozen=True)
class Band:
    """An interpolation matrix (n, m) as a band: the nonzero entries of each row.

    Attributes:
        first: int64 (n,), the column of each row's first entry.
        weights: float32 (n, s), the entries of each row from there on.
        sizes: n, m, s.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float32]
    sizes: tuple[int, int, int]

    @staticmethod
    def of(matrix: Tensor) -> Band:
        """Return the band of a matrix whose other entries are zero."""
        n, m = matrix.shape
        first, last = mask_ops.extent(matrix != 0)
        s = int((last - first).max()) + 1
        first = first.clamp(max=m - s)
        weights = matrix.gather(1, first[:, None] + torch.arange(s))
        return Band(first.numpy(), weights.contiguous().numpy(), (n, m, s))


@dataclass(frozen=True)
class _Reach:
    """The inputs of each output, and the outputs of each input, of an interpolation matrix."""

    first_source: list[int]
    last_source: list[int]
    first_touched: list[int]
    last_touched: list[int]

    @staticmethod
    def of(matrix: Tensor) -> _Reach:
        used = matrix != 0
        n = len(matrix)
        first, last = mask_ops.extent(used)
        first_touched, last_touched = mask_ops.extent(used.T)
        shares = used.any(0)
        return _Reach(
            first.tolist(),
            last.tolist(),
            torch.where(shares, first_touched, n).tolist(),
            torch.where(shares, last_touched, -1).tolist(),
        )

    def touched(self, start: int, end: int) -> tuple[int, int]:
        return min(self.first_touched[start : end + 1]), max(self.last_touched[start : end + 1])

    def sources(self, start: int, end: int) -> tuple[int, int]:
        return self.first_source[start], self.last_source[end]


@lru_cache(maxsize=8)
def _interpolation(frame: Frame, low: Size) -> Interpolation:
    rows, columns = (_matrix(frame, low, axis) for axis in (0, 1))
    reach, bands = (_Reach.of(rows), _Reach.of(columns)), (Band.of(rows), Band.of(columns))
    return Interpolation(rows, columns, reach, bands)


def _matrix(frame: Frame, low: Size, axis: int) -> Tensor:
    """Return the matrix of `to_view` along one axis, by applying it to all unit vectors."""
    flat = frame.along(axis)
    unit = torch.eye(low[axis], dtype=torch.float64)[:, :, None]
    return flat.to_view(unit)[:, :, 0].T.float().contiguous()
