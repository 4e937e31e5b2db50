"""Masks at full resolution on an accelerator, where they are measured, compared and coded.

A mask is brought to full resolution once, measured, and kept as bits: 32 kB for 512 x 512 px. The
host gets eight numbers for each mask, in one copy for all; the run edges of those that NMS leaves,
in another; and never pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from everything.core.device import fetched, sent
from everything.core.geometry import Frame, Size
from everything.core.mask_ops import Cuts
from everything.core.out_of_memory import Lots
from everything.core.rle import Rle
from everything.kernels import run_lengths
from everything.pipeline import fused_measuring
from everything.pipeline.fused_measuring import WORD

EXACT = 2**24  # ones that float32 can add up


@dataclass(frozen=True)
class Place:
    """Where a view lies in its image: the view's corner (x, y) and the image's size (H, W), px."""

    origin: tuple[int, int]
    size: Size


def bytes_per_mask(view: Size) -> int:
    """Return what the bits of a mask of a view of (h, w) px take."""
    return view[1] * -(-view[0] // WORD) * WORD // 8


@dataclass(frozen=True)
class Bits:
    """Masks of a view on a device.

    Attributes:
        bits: uint8 (N, w, B). Bit i of byte b is row 8 b + i of a column; rows below the view are
            zero.
        edges: int64 (N,) on the CPU. In how many places columns begin and end to be in the mask.
        view: (h, w) px.
        place: Where the view lies in its image.
        memory: Bytes that intermediate results may take.
    """

    bits: Tensor
    edges: Tensor
    view: Size
    place: Place
    memory: int

    def __getitem__(self, rows: Tensor) -> Bits:
        return Bits(
            self.bits[sent(rows, self.bits.device)],
            self.edges[rows],
            self.view,
            self.place,
            self.memory,
        )

    def codes(self) -> list[Rle]:
        """Return the run lengths over the image. The host waits once for each lot."""
        most = self.memory // (12 * self.view[1] * (self.view[0] + 1))
        lots = Lots("masks are coded", len(self.bits)).each(len(self.bits), most, self._coded)
        return [code for lot in lots for code in lot]

    def _coded(self, lot: slice) -> list[Rle]:
        (height, width), (x, y), size = self.view, self.place.origin, self.place.size
        columns = F.pad(unpacked(self.bits[lot])[..., :height], (1, 1))
        changes = (columns[..., 1:] != columns[..., :-1]).flatten()
        counts = self.edges[lot]
        found = torch.nonzero_static(changes, size=int(counts.sum()))[:, 0]
        flat = fetched(found).numpy()
        column, row = np.divmod(flat % (width * (height + 1)), height + 1)
        edges = (column + x) * size[0] + row + y
        return run_lengths.encode_flat(edges, counts.numpy(), size)

    def intersections(self) -> Tensor:
        """Return how many px each two masks share, int64 (N, N) on the CPU. One wait."""
        flat = self.bits.flatten(1)
        found = torch.zeros(len(flat), len(flat), dtype=torch.int32, device=flat.device)

        def add(lot: slice) -> None:
            ones = unpacked(flat[:, lot]).float()
            found.add_((ones @ ones.T).int())

        most = min(EXACT // 8, self.memory // (2 * 8 * 4 * max(1, len(flat))))
        for _ in Lots("bytes of masks are compared", EXACT).each(flat.shape[1], most, add):
            pass
        return fetched(found).long()


class DeviceRles(Sequence[Rle]):
    """Run lengths of masks that are still on a device; they are coded when one is looked at.

    Args:
        parts: The masks, in order.
    """

    def __init__(self, parts: Sequence[Bits]) -> None:
        self.parts = [part for part in parts if len(part.bits)]
        self._known: list[Rle] | None = None

    def codes(self) -> list[Rle]:
        """Return all run lengths."""
        if self._known is None:
            self._known = [code for part in self.parts for code in part.codes()]
            self.parts = []
        return self._known

    def __len__(self) -> int:
        if self._known is not None:
            return len(self._known)
        return sum(len(part.bits) for part in self.parts)

    @overload
    def __getitem__(self, index: int) -> Rle: ...
    @overload
    def __getitem__(self, index: slice | Tensor) -> Sequence[Rle]: ...
    def __getitem__(self, index: int | slice | Tensor) -> Rle | Sequence[Rle]:
        """Return one run length, or those of some masks, which stay on the device."""
        if isinstance(index, int):
            return self.codes()[index]
        rows = torch.arange(len(self))[index]
        merged = self.merged()
        if merged is None:
            known = self.codes()
            return [known[row] for row in rows.tolist()]
        return DeviceRles([merged[rows]])

    def merged(self) -> Bits | None:
        """Return all masks as one record, or None if they are coded already or of different
        views."""
        if len({(part.view, part.place) for part in self.parts}) != 1:
            return None
        if len(self.parts) > 1:
            first = self.parts[0]
            bits = torch.cat([part.bits for part in self.parts])
            edges = torch.cat([part.edges for part in self.parts])
            self.parts = [Bits(bits, edges, first.view, first.place, first.memory)]
        return self.parts[0]

    @classmethod
    def cat(cls, columns: Sequence[Sequence[Rle]]) -> Sequence[Rle]:
        """Return the run lengths of all columns, on the device if all of them are there."""
        if all(isinstance(column, cls) and column._known is None for column in columns):
            return cls([part for column in columns for part in _parts_of(column)])
        return [code for column in columns for code in column]


def _parts_of(column: Sequence[Rle]) -> Sequence[Bits]:
    return column.parts if isinstance(column, DeviceRles) else ()


@dataclass(frozen=True)
class DeviceMasks:
    """N masks measured on a device; the columns are on the CPU.

    Attributes:
        stability: float32 (N,), NaN where nothing is near the threshold.
        areas: int64 (N,) px.
        boxes: float32 (N, 4) xyxy, inclusive view px; zeros for an empty mask.
        bits: The masks.
    """

    stability: Tensor
    areas: Tensor
    boxes: Tensor
    bits: Bits

    @classmethod
    def of(
        cls,
        logits: Tensor,
        frame: Frame,
        cuts: Cuts,
        place: Place,
        memory: int,
        fused: bool = False,
    ) -> Self:
        """Return masks given as logits float32 (N, hl, wl) over the frame's canvas; one wait.

        cuts: see `Cuts`. memory: bytes of intermediate results. fused: by one kernel, which has
        none.
        """
        if fused:
            measures, packed_bits = fused_measuring.measured(logits, frame, cuts)
            found = fetched(measures)
            boxes = fused_measuring.boxes_of(found, frame.view)
            kept = Bits(packed_bits, found[:, 7].long(), frame.view, place, memory)
            return cls(found[:, 2] / found[:, 0], found[:, 1].long(), boxes, kept)
        pixels = [frame.view] if frame.resize == "one-step" else [frame.view, frame.canvas]
        each = 8 * max(height * width for height, width in pixels)
        lots = torch.split(logits, max(1, memory // each)) if len(logits) else ()
        numbers, bits = [], []
        for lot in lots:
            measures, packed = measured(lot, frame, cuts)
            numbers.append(measures)
            bits.append(packed)
        if not lots:
            numbers = [logits.new_zeros(0, 8, dtype=torch.int64)]
            bits = [logits.new_zeros(0, frame.view[1], 0, dtype=torch.uint8)]
        found = fetched(_joined(numbers))
        boxes = found[:, 3:7].float() * (found[:, 1:2] > 0)
        kept = Bits(_joined(bits), found[:, 7], frame.view, place, memory)
        return cls(found[:, 2].int() / found[:, 0], found[:, 1], boxes, kept)

    def rles(self, rows: Sequence[int]) -> Sequence[Rle]:
        """Return the run lengths of some masks, which stay on the device until they are looked
        at."""
        return DeviceRles([self.bits[torch.tensor(rows, dtype=torch.int64)]])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def measured(logits: Tensor, frame: Frame, cuts: Cuts) -> tuple[Tensor, Tensor]:
    """Return measures and bits of masks given as logits float32 (N, hl, wl) over the canvas.

    Returns:
        int64 (N, 8): px above the outer, the mask's and the inner cut; x0, y0, x1, y1 of the box,
        inclusive view px, anything for an empty mask; run edges. And the bits: see `Bits`.
    """
    full = frame.to_view(logits)
    masks = full > cuts.mask
    columns = masks.transpose(1, 2)
    above = [x.flatten(1).sum(1) for x in (full > cuts.outer, masks, full > cuts.inner)]
    box = [*_extent(masks.any(1)), *_extent(masks.any(2))]
    padded = F.pad(columns, (1, 1))
    edges = (padded[..., 1:] != padded[..., :-1]).flatten(1).sum(1)
    numbers = torch.stack([*above, box[0], box[2], box[1], box[3], edges], 1)
    return numbers, packed(columns)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last true place of each row of bool (N, L), int64 (N,) each."""
    places = torch.arange(occupied.shape[1], device=occupied.device)
    first = torch.where(occupied, places, occupied.shape[1]).amin(1)
    return first, torch.where(occupied, places, -1).amax(1)


def packed(columns: Tensor) -> Tensor:
    """Return bool (N, w, h) as bits uint8 (N, w, B): see `Bits`."""
    padded = F.pad(columns, (0, -columns.shape[2] % WORD)).to(torch.uint8)
    each = torch.unflatten(padded, 2, (-1, 8))
    shifts = torch.arange(8, dtype=torch.uint8, device=columns.device)
    return (each << shifts).sum(3, dtype=torch.uint8)


def unpacked(bits: Tensor) -> Tensor:
    """Return bits uint8 (..., B) as bool (..., 8 B)."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((bits[..., None] >> shifts) & 1).flatten(-2).bool()
