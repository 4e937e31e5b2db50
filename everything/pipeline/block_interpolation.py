"""Measure masks at full resolution by interpolating only the blocks along their outline.

An image of 12 megapixels has 200 pixels for every cell of a mask's logits, nearly all of them
clearly inside or clearly outside the mask. The view is divided into blocks. Bilinear interpolation
stays between the smallest and the largest of the cells that a block reads, which decides most
blocks; only the others are interpolated. Results equal those of interpolating the whole mask, up to
rounding at pixels on the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything.core import mask_ops
from everything.core.geometry import Frame, Size
from everything.core.interpolation import Interpolation
from everything.core.mask_ops import Cuts
from everything.core.rle import Outline

SIDE = 16  # px
BATCH = 2048  # blocks interpolated at a time
MOST_CELLS = 64  # that a block reads: with more, blocks save nothing
MASK = 1  # index of the mask's own threshold among the cuts
ROUNDING = 4e-6  # of the largest logit: generous for a float32 interpolation


@dataclass(frozen=True)
class Axis:
    """One axis of a view of `length` px, divided into n blocks.

    first: int64 (n,), the first of the s cells that a block reads. weights: float32
    (n, SIDE + 2, s), interpolation weights of its pixels and of one more at either end. inside:
    bool (n, SIDE + 2), which of these pixels are in the view. sizes: int64 (n,) px.
    """

    length: int
    first: Tensor
    weights: Tensor
    inside: Tensor
    sizes: Tensor

    @staticmethod
    def of(matrix: Tensor) -> Axis:
        """Return the blocks of an axis whose interpolation is a matrix float32 (length, cells)."""
        length, cells = matrix.shape
        n = -(-length // SIDE)
        pixels = torch.arange(n)[:, None] * SIDE + torch.arange(-1, SIDE + 1)
        inside = (pixels >= 0) & (pixels < length)
        rows = matrix[pixels.clamp(0, length - 1)] * inside[..., None]
        first, last = mask_ops.extent((rows != 0).any(1))
        count = int((last - first).max()) + 1
        first = first.clamp(max=cells - count)
        sources = (first[:, None] + torch.arange(count))[:, None].expand(-1, SIDE + 2, -1)
        sizes = inside[:, 1:-1].sum(1)
        return Axis(length, first, rows.gather(2, sources), inside, sizes)

    @property
    def count(self) -> int:
        """How many cells a block reads."""
        return self.weights.shape[2]

    def gathered(self, cells: Tensor, dim: int, better: Callable[..., Tensor]) -> Tensor:
        """Return the minimum or maximum of each block's cells along `dim`; better: torch.minimum
        or torch.maximum."""
        best = cells.index_select(dim, self.first)
        for k in range(1, self.count):
            best = better(best, cells.index_select(dim, self.first + k))
        return best


@dataclass(frozen=True)
class Blocks:
    """A view divided into blocks, for logits of one size."""

    rows: Axis
    columns: Axis

    @staticmethod
    def of(frame: Frame, low: Size) -> Blocks:
        """Return the blocks of a frame's view, for logits of (hl, wl); bilinear frames only."""
        return _blocks(frame, low)

    @property
    def is_faster(self) -> bool:
        """Whether blocks read so few cells that they are faster than interpolating everything."""
        return self.rows.count * self.columns.count <= MOST_CELLS

    def measure(self, logits: Tensor, cuts: Cuts) -> BlockMask:
        """Measure a mask given as logits float32 (hl, wl)."""
        low, high = (
            self.columns.gathered(self.rows.gathered(logits, 0, better), 1, better)
            for better in (torch.minimum, torch.maximum)
        )
        doubt = ROUNDING * float(logits.abs().max())
        mixed = torch.zeros_like(low, dtype=torch.bool)
        for cut in cuts:
            mixed |= (low <= cut + doubt) & (high >= cut - doubt)
        decided = low.masked_fill(mixed, -math.inf)
        counts = [self._area(decided > cut) for cut in cuts]
        r, c = mixed.nonzero(as_tuple=True)
        pixels = np.empty((len(r), SIDE + 2, SIDE), np.bool_)
        for start in range(0, len(r), BATCH):
            some = slice(start, start + BATCH)
            values = self._interpolated(logits, r[some], c[some])
            for k, cut in enumerate(cuts):
                above = np.greater(values, cut, out=pixels[some] if k == MASK else None)
                ends = int(np.count_nonzero(above[:, [0, -1]]))
                counts[k] += int(np.count_nonzero(above)) - ends
        full = (decided > cuts.mask).numpy()
        return BlockMask(self, full, mixed.numpy(), (r.numpy(), c.numpy()), pixels, counts)

    def _area(self, blocks: Tensor) -> int:
        """Area, px, of the blocks that are set in bool (n, m)."""
        across = blocks.double() @ self.columns.sizes.double()
        return int(self.rows.sizes.double() @ across)

    def _interpolated(self, logits: Tensor, r: Tensor, c: Tensor) -> NDArray[np.float32]:
        """Logits (B, SIDE + 2, SIDE) of blocks with one row above and below; -inf outside the
        view."""
        down = self.rows.first[r][:, None] + torch.arange(self.rows.count)
        across = self.columns.first[c][:, None] + torch.arange(self.columns.count)
        cells = logits[down[:, :, None], across[:, None]]
        weights = self.columns.weights[:, 1:-1][c]
        # Sums of a few terms: as products of matrices they would take twice as long.
        wide = _sum(cells[:, :, k, None] * weights[:, None, :, k] for k in range(cells.shape[2]))
        weights = self.rows.weights[r]
        values = _sum(weights[:, :, k, None] * wide[:, k, None] for k in range(wide.shape[1]))
        beyond = ~self.rows.inside[r]
        at = beyond.any(1).nonzero()[:, 0]
        values[at] = values[at].masked_fill(beyond[at][:, :, None], -math.inf)
        beyond = ~self.columns.inside[:, 1:-1][c]
        at = beyond.any(1).nonzero()[:, 0]
        values[at] = values[at].masked_fill(beyond[at][:, None], -math.inf)
        return values.numpy()


@dataclass(frozen=True)
class BlockMask:
    """A mask at full resolution, by blocks.

    full, mixed: bool (n, m), blocks entirely inside the mask, and interpolated ones. where: row and
    column of the B mixed blocks, in order. pixels: bool (B, SIDE + 2, SIDE), the mask in these and
    in one row above and below. counts: number of px above each of the cuts.
    """

    blocks: Blocks
    full: NDArray[np.bool_]
    mixed: NDArray[np.bool_]
    where: tuple[NDArray[np.int64], NDArray[np.int64]]
    pixels: NDArray[np.bool_]
    counts: list[int]

    def box(self) -> list[int]:
        """Return the box x0, y0, x1, y1 inclusive, view px; zeros for an empty mask."""
        if not self.counts[MASK]:
            return [0, 0, 0, 0]
        pixels = self.pixels[:, 1:-1]
        some = np.flatnonzero(pixels.view(np.uint64).any((1, 2)))  # eight flags at a time
        r, c = self.where[0][some], self.where[1][some]
        x0, x1 = _extent(self.full, 1, c, pixels, some, self.blocks.columns)
        y0, y1 = _extent(self.full, 0, r, pixels, some, self.blocks.rows)
        return [x0, y0, x1, y1]

    def outline(self) -> Outline:
        """Return the outline of the mask over the view."""
        (r, c), pixels, rows = self.where, self.pixels, len(self.mixed)
        changes = pixels[:, 1:] != pixels[:, :-1]
        # The row below is the next block's own, if that has pixels.
        changes[:, -1] &= (
            ~self.mixed[np.minimum(r + 1, rows - 1), c][:, None] | (r + 1 == rows)[:, None]
        )
        block, step, column = np.unravel_index(np.flatnonzero(changes), changes.shape)
        y, x = r[block] * SIDE + step, c[block] * SIDE + column
        height = self.blocks.rows.length
        within = (y > 0) & (y < height)
        last = height - 1 - (rows - 1) * SIDE
        top, bottom = (self._set(edge, at) for edge, at in ((0, 1), (rows - 1, last + 1)))
        return Outline(y[within], x[within], top, bottom, height)

    def _set(self, edge: int, at: int) -> NDArray[np.int64]:
        """Columns of the mask in one row of px: row `at` within the blocks of row `edge`."""
        here = self.where[0] == edge
        block, column = self.pixels[here, at].nonzero()
        whole = np.flatnonzero(self.full[edge])[:, None] * SIDE + np.arange(SIDE)
        whole = whole[whole < self.blocks.columns.length]
        return np.concatenate([self.where[1][here][block] * SIDE + column, whole.ravel()])


def _sum(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total += term
    return total


def _extent(
    full: NDArray[np.bool_],
    dim: int,
    block: NDArray[np.int64],
    pixels: NDArray[np.bool_],
    some: NDArray[np.int64],
    axis: Axis,
) -> tuple[int, int]:
    """Return the first and last px of a mask along axis `dim`.

    full: bool (n, m), blocks entirely inside the mask. pixels: bool (B, SIDE, SIDE) of the
    interpolated blocks, of which `some` are not empty. block: their row or column.
    """
    whole = np.flatnonzero(full.any(1 - dim))
    ends = whole[-1:] * SIDE + axis.sizes.numpy()[whole[-1:]] - 1
    found: list[int] = [*(whole[:1] * SIDE).tolist(), *ends.tolist()]
    for edge in {block.min(), block.max()} if len(block) else ():
        at = np.flatnonzero(pixels[some[block == edge]].any((0, 2 - dim)))
        found += (edge * SIDE + at[[0, -1]]).tolist()
    return min(found), max(found)


@lru_cache(maxsize=8)
def _blocks(frame: Frame, low: Size) -> Blocks:
    matrices = Interpolation.of(frame, low)
    return Blocks(Axis.of(matrices.rows), Axis.of(matrices.columns))
