"""Masks at full resolution without most of their pixels.

A photo of 12 megapixels has 200 pixels for every cell of a mask's logits, and nearly all of them
lie where the mask is surely there or surely not. The view is cut into blocks. Interpolated logits
lie between the least and the greatest of the cells that a block draws on, so that most blocks are
decided by those; only the others, along the outline, are interpolated. Results are those of
interpolating everything, up to the rounding of pixels that lie on the cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything import ops
from everything.interpolation import Interpolation
from everything.rle import Outline
from everything.view import Frame, Size

SIDE = 16  # px
TOGETHER = 2048  # blocks that are interpolated together
PAYING = 64  # cells of a block, at most
ROUNDING = 4e-6  # of the largest logit: generous for a float32 interpolation


@dataclass(frozen=True)
class Axis:
    """One axis of a view of `length` px, cut into n blocks.

    first: int64 (n,), the first of the s cells that a block draws on. weights: float32
    (n, SIDE + 2, s), those of its pixels and of one before and behind. inside: bool
    (n, SIDE + 2), which of these are in the view. sizes: int64 (n,) px.
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
        first, last = ops.extent((rows != 0).any(1))
        count = int((last - first).max()) + 1
        first = first.clamp(max=cells - count)
        sources = (first[:, None] + torch.arange(count))[:, None].expand(-1, SIDE + 2, -1)
        sizes = inside[:, 1:-1].sum(1)
        return Axis(length, first, rows.gather(2, sources), inside, sizes)

    @property
    def count(self) -> int:
        """How many cells a block draws on."""
        return self.weights.shape[2]

    def gathered(self, cells: Tensor, dim: int, better: Callable[..., Tensor]) -> Tensor:
        """Return the best of each block's cells along `dim`; better: torch.minimum or maximum."""
        best = cells.index_select(dim, self.first)
        for k in range(1, self.count):
            best = better(best, cells.index_select(dim, self.first + k))
        return best


@dataclass(frozen=True)
class Blocks:
    """A view cut into blocks, for logits of one size."""

    rows: Axis
    columns: Axis

    @staticmethod
    def of(frame: Frame, low: Size) -> Blocks:
        """Return the blocks of a frame's view, for logits of (hl, wl); bilinear frames only."""
        return _blocks(frame, low)

    @property
    def pay(self) -> bool:
        """Whether blocks have many more pixels than cells, without which they gain nothing."""
        return self.rows.count * self.columns.count <= PAYING

    def look(self, logits: Tensor, offset: float) -> Looked:
        """Return what there is to see of masks given as logits float32 (N, hl, wl)."""
        low, high = (
            self.columns.gathered(self.rows.gathered(logits, 1, better), 2, better)
            for better in (torch.minimum, torch.maximum)
        )
        doubt = offset + ROUNDING * logits.abs().amax((1, 2))[:, None, None]
        full, mixed = low > doubt, (high >= -doubt) & (low <= doubt)
        n, r, c = mixed.nonzero(as_tuple=True)
        pixels = np.empty((len(n), SIDE + 2, SIDE), np.bool_)
        counts = torch.zeros(3, len(logits), dtype=torch.int64)
        counts += self._areas(full)
        for start in range(0, len(n), TOGETHER):
            some = slice(start, start + TOGETHER)
            values, inside = self._interpolated(logits, n[some], r[some], c[some])
            for row, cut in enumerate((-offset, 0.0, offset)):
                above = (values > cut) & inside
                if cut == 0.0:
                    pixels[some] = above
                per_block = np.count_nonzero(above[:, 1:-1].reshape(len(above), -1), axis=1)
                counts[row].index_add_(0, n[some], torch.from_numpy(per_block))
        return Looked(self, full, mixed, (n, r, c), pixels, counts)

    def _areas(self, full: Tensor) -> Tensor:
        """Areas of whole blocks, int64 (N,) px."""
        down, across = self.rows.sizes.double(), self.columns.sizes.double()
        return torch.einsum("nrc,r,c->n", full.double(), down, across).long()

    def _interpolated(
        self, logits: Tensor, n: Tensor, r: Tensor, c: Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Logits (B, SIDE + 2, SIDE) of blocks with one row above and below, and which of these
        pixels are in the view."""
        down = self.rows.first[r][:, None] + torch.arange(self.rows.count)
        across = self.columns.first[c][:, None] + torch.arange(self.columns.count)
        cells = logits[n[:, None, None], down[:, :, None], across[:, None]]
        across_weights = self.columns.weights[:, 1:-1][c].transpose(1, 2)
        values = torch.bmm(torch.bmm(self.rows.weights[r], cells), across_weights)
        inside = self.rows.inside[r][:, :, None] & self.columns.inside[:, 1:-1][c][:, None]
        return values.numpy(), inside.numpy()


@dataclass(frozen=True)
class Looked:
    """N masks seen through blocks.

    full, mixed: bool (N, n, m), blocks wholly in a mask, and those that had to be interpolated.
    where: mask, row and column of the B mixed ones, in order. pixels: bool (B, SIDE + 2, SIDE),
    theirs with one row above and below. counts: int64 (3, N), px above -offset, 0, offset.
    """

    blocks: Blocks
    full: Tensor
    mixed: Tensor
    where: tuple[Tensor, Tensor, Tensor]
    pixels: NDArray[np.bool_]
    counts: Tensor

    def boxes(self) -> Tensor:
        """Return boxes float32 (N, 4) xyxy inclusive, view px; zeros for an empty mask."""
        own, (n, r, c) = self.pixels[:, 1:-1], self.where
        across_own, down_own = (torch.from_numpy(own.any(axis)) for axis in (1, 2))
        across = _extent(self.full.any(1), across_own, n, c, self.blocks.columns)
        down = _extent(self.full.any(2), down_own, n, r, self.blocks.rows)
        boxes = torch.stack([across[0], down[0], across[1], down[1]], 1)
        return (boxes * (self.counts[1] > 0)[:, None]).float()

    def outline(self, mask: int) -> Outline:
        """Return the outline of one of the masks over the view."""
        n, r, c = (index.numpy() for index in self.where)
        own = slice(*np.searchsorted(n, [mask, mask + 1]))
        r, c, pixels = r[own], c[own], self.pixels[own]
        mixed, full = self.mixed[mask].numpy(), self.full[mask].numpy()
        changes = pixels[:, 1:] != pixels[:, :-1]
        # The row below is the next block's own, if that has pixels.
        below = np.zeros(len(r), np.bool_)
        below[r + 1 < len(mixed)] = mixed[r[r + 1 < len(mixed)] + 1, c[r + 1 < len(mixed)]]
        changes[:, -1] &= ~below[:, None]
        block, step, column = changes.nonzero()
        rows, columns = r[block] * SIDE + step, c[block] * SIDE + column
        height = self.blocks.rows.length
        within = (rows > 0) & (rows < height)
        last = height - 1 - (len(mixed) - 1) * SIDE
        ends = [
            self._ends(pixels, (r, c), full, edge, step)
            for edge, step in ((0, 1), (len(mixed) - 1, last + 1))
        ]
        return Outline(rows[within], columns[within], ends[0], ends[1], height)

    def _ends(
        self,
        pixels: NDArray[np.bool_],
        where: tuple[NDArray[np.int64], NDArray[np.int64]],
        full: NDArray[np.bool_],
        edge: int,
        step: int,
    ) -> NDArray[np.int64]:
        """Columns that are set in one row: `step` of the blocks (with one above) in row `edge`."""
        at = where[0] == edge
        block, column = pixels[at, step].nonzero()
        whole = np.flatnonzero(full[edge])[:, None] * SIDE + np.arange(SIDE)
        whole = whole[whole < self.blocks.columns.length]
        return np.concatenate([where[1][at][block] * SIDE + column, whole.ravel()])


def _extent(
    full: Tensor, pixels: Tensor, n: Tensor, block: Tensor, axis: Axis
) -> tuple[Tensor, Tensor]:
    """First and last px, int64 (N,) each, of masks along an axis: of whole blocks, bool (N, n),
    and of the pixels (B, SIDE) of others."""
    first, last = ops.extent(full)
    none = ~full.any(1)
    start = torch.where(none, axis.length, first * SIDE)
    end = torch.where(none, -1, (last * SIDE + axis.sizes[last] - 1))
    some = pixels.any(1)
    here, there = ops.extent(pixels)
    n, at = n[some], block[some] * SIDE
    start = start.scatter_reduce(0, n, at + here[some], "amin")
    return start, end.scatter_reduce(0, n, at + there[some], "amax")


@lru_cache(maxsize=8)
def _blocks(frame: Frame, low: Size) -> Blocks:
    matrices = Interpolation.of(frame, low)
    return Blocks(Axis.of(matrices.rows), Axis.of(matrices.columns))
