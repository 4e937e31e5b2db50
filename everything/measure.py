"""What the gate wants to know of a mask at full resolution: stability, box, and its run lengths.

On a CPU the compiled kernels interpolate a mask column by column and keep only counts and the
places where it begins and ends. Without them a mask is brought to full resolution only where it
matters: inside its region of interest, the cells whose logit exceeds -offset and those that
interpolation mixes with them, since all else is at most -offset; on large photos only along its
outline (blocks.py). Where SAM's own arithmetic is asked for, on other devices and for bicubic
frames, whose interpolation overshoots the logits, whole masks are interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything import native, ops, rle
from everything.blocks import Blocks
from everything.interpolation import Interpolation
from everything.rle import Outline, Rle
from everything.view import Frame, Size

WORKING_SET = 64 * 2**20  # bytes of full-resolution logits that are held at a time
LARGE = 2**17  # px of a region, beyond which its outline alone is interpolated

# "auto": by the kernels, where there are any. "torch": without them. "exact": with SAM's own order
# of additions, which decides the side of pixels that lie on the cut.
Way = Literal["auto", "torch", "exact"]


@dataclass(frozen=True)
class Place:
    """Where a view lies in its image: the view's corner (x, y) and the image's size (H, W), px."""

    origin: tuple[int, int]
    size: Size


@dataclass(frozen=True)
class Measured:
    """N masks measured.

    stability: float32 (N,), NaN where nothing is near the cut. areas: int64 (N,) px. boxes:
    float32 (N, 4) xyxy inclusive, view px; zeros for an empty mask. codes: N functions that return
    a mask's run lengths over the image; only masks that are kept need theirs.
    """

    stability: Tensor
    areas: Tensor
    boxes: Tensor
    codes: Sequence[Callable[[], Rle]]


def measure(
    logits: Tensor, frame: Frame, offset: float, way: Way = "auto", place: Place | None = None
) -> Measured:
    """Return the measures of masks given as logits float32 (N, hl, wl) over the frame's canvas.

    offset: how far the cut is moved for the stability (SAM's stability_score_offset). place: of
    the view in its image; None: it is the image.
    """
    place = place or Place((0, 0), frame.view)
    if way == "auto" and native.kernels is not None and logits.device.type == "cpu":
        return _looked(logits, frame, offset, place)
    parts = list(_parts(logits, frame, offset, way == "exact"))
    none = _Part(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), [])
    return Measured(
        torch.cat([none.stability, *(part.stability for part in parts)]),
        torch.cat([none.areas, *(part.areas for part in parts)]),
        torch.cat([none.boxes, *(part.boxes for part in parts)]),
        [partial(_code, outline, place) for part in parts for outline in part.outlines],
    )


def _looked(logits: Tensor, frame: Frame, offset: float, place: Place) -> Measured:
    """What the kernels make of masks."""
    rows, columns = Interpolation.of(frame, (logits.shape[1], logits.shape[2])).bands
    counts = np.zeros((len(logits), 7), np.int64)
    masks = logits.contiguous().numpy()
    edges: list[bytes] = [b""] * len(masks)

    def run(some: slice) -> None:
        arrays = [masks[some], rows.first, rows.weights, columns.first, columns.weights]
        edges[some] = native.kernels.look(
            len(masks[some]),
            rows.sizes,
            columns.sizes,
            (*place.origin, place.size[0]),
            offset,
            frame.interpolation == "bilinear",
            [*arrays, counts[some]],
        )

    native.in_threads(run, len(masks))
    found = torch.from_numpy(counts)
    return Measured(
        found[:, 2].int() / found[:, 0],
        found[:, 1],
        found[:, 3:].float(),
        [partial(_code_of_edges, each, place.size) for each in edges],
    )


def _code_of_edges(edges: bytes, size: Size) -> Rle:
    return rle.encode_edges(np.frombuffer(edges, np.int64), size)


def _code(outline: Callable[[], Outline], place: Place) -> Rle:
    """A mask of a view as run lengths over the image."""
    found = outline()
    x, y = found.origin[0] + place.origin[0], found.origin[1] + place.origin[1]
    return rle.encode_outline(replace(found, origin=(x, y)), place.size)


@dataclass(frozen=True)
class _Part:
    """Some masks measured without the kernels: as Measured, but with their outlines in the view."""

    stability: Tensor
    areas: Tensor
    boxes: Tensor
    outlines: Sequence[Callable[[], Outline]]


def _parts(logits: Tensor, frame: Frame, offset: float, exact: bool) -> Iterator[_Part]:
    low = (logits.shape[1], logits.shape[2])
    if not len(logits):
        return
    if logits.device.type == "cpu" and frame.is_identity(logits):
        yield from (_region(mask.numpy(), offset) for mask in logits)
    elif logits.device.type != "cpu" or frame.interpolation != "bilinear" or exact:
        height, width = frame.view
        together = max(1, WORKING_SET // (4 * height * width))
        yield from (_whole(some, frame, offset) for some in torch.split(logits, together))
    else:
        interpolation, blocks = Interpolation.of(frame, low), Blocks.of(frame, low)
        yield from (_enlarged(mask, interpolation, blocks, offset) for mask in logits)


def _enlarged(logits: Tensor, interpolation: Interpolation, blocks: Blocks, offset: float) -> _Part:
    """A mask given as logits (hl, wl)."""
    near = logits.numpy() > -offset
    if not near.any():
        return _region(near[:0, :0].astype(np.float32), offset)
    box = _box(near)
    if blocks.pay and interpolation.area(box) > LARGE:
        return _by_block(logits, blocks, offset)
    part, origin = interpolation.region(logits, box)
    return _region(part.numpy(), offset, origin)


def _by_block(logits: Tensor, blocks: Blocks, offset: float) -> _Part:
    looked = blocks.look(logits, offset)
    outer, area, inner = looked.counts
    return _Part(
        torch.tensor([inner], dtype=torch.int32) / outer,
        torch.tensor([area]),
        torch.tensor([looked.box()], dtype=torch.float32),
        [looked.outline],
    )


def _region(logits: NDArray[np.float32], offset: float, origin: tuple[int, int] = (0, 0)) -> _Part:
    """A mask of which logits (h, w), at `origin` (x, y) of the view, hold all above -offset.

    Counts whole-array comparisons, which is what a large mask costs: numpy's are fast.
    """
    outer, inner = (int(np.count_nonzero(logits > cut)) for cut in (-offset, offset))
    mask = logits > 0
    area = np.count_nonzero(mask)
    box = torch.zeros(4)
    if area:
        box = torch.tensor(_box(mask), dtype=torch.float32)
        box += torch.tensor([*origin, *origin])
    return _Part(
        torch.tensor([inner], dtype=torch.int32) / outer,
        torch.tensor([area]),
        box[None],
        [partial(Outline.of, mask, origin)],
    )


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _whole(logits: Tensor, frame: Frame, offset: float) -> _Part:
    full = frame.to_view(logits)
    masks = full > 0
    areas, boxes = masks.flatten(1).sum(1), ops.mask_to_box(masks).float()
    outlines = [partial(_outline, mask) for mask in masks]
    return _Part(ops.stability(full, offset).cpu(), areas.cpu(), boxes.cpu(), outlines)


def _outline(mask: Tensor) -> Outline:
    """A mask's outline, found where the mask is: a device sends edges, not pixels."""
    if mask.device.type == "cpu":
        return Outline.of(mask.numpy())
    changes = (mask[1:] != mask[:-1]).nonzero().T
    edges = [changes[0] + 1, changes[1], mask[0].nonzero()[:, 0], mask[-1].nonzero()[:, 0]]
    rows, columns, top, bottom = (edge.cpu().numpy() for edge in edges)
    return Outline(rows, columns, top, bottom, len(mask))
