"""What the gate wants to know of a mask at full resolution: stability, box, and its run lengths.

On a CPU the compiled kernels interpolate a mask column by column and keep only counts and the
places where it begins and ends. Without them a mask is brought to full resolution only where it
matters: inside its region of interest, the cells whose logit exceeds -offset and those that
interpolation mixes with them, since all else is at most -offset; on large photos only along its
outline (block_interpolation.py). Where SAM's own arithmetic is asked for, and for bicubic frames,
whose interpolation overshoots the logits, whole masks are interpolated. So they are on other
devices, which send counts of all masks, and of those that are kept where runs begin and end, never
pixels.
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
from torch.nn import functional as F

from everything.core import mask_ops, rle
from everything.core.device import sent
from everything.core.geometry import Frame, Size
from everything.core.interpolation import Interpolation
from everything.core.rle import Outline, Rle
from everything.kernels import loader
from everything.pipeline.block_interpolation import Blocks

WORKING_SET = 64 * 2**20  # bytes of full-resolution logits that are held at a time
WORKING_SET_THERE = 256 * 2**20  # on a device, which has to be given much to do
LARGE = 2**17  # px of a region, beyond which its outline alone is interpolated

# "auto": by the kernels, where there are any. "torch": without them. "exact": with SAM's own order
# of additions, which decides the side of pixels that lie on the cut.
Arithmetic = Literal["auto", "torch", "exact"]


@dataclass(frozen=True)
class Place:
    """Where a view lies in its image: the view's corner (x, y) and the image's size (H, W), px."""

    origin: tuple[int, int]
    size: Size


@dataclass(frozen=True)
class Measured:
    """N masks measured.

    stability: float32 (N,), NaN where nothing is near the cut. areas: int64 (N,) px. boxes:
    float32 (N, 4) xyxy inclusive, view px; zeros for an empty mask. codes: returns the run lengths
    over the image of some rows, in their order; only masks that are kept need theirs.
    """

    stability: Tensor
    areas: Tensor
    boxes: Tensor
    codes: Callable[[Sequence[int]], list[Rle]]


def measure(
    logits: Tensor,
    frame: Frame,
    offset: float,
    way: Arithmetic = "auto",
    place: Place | None = None,
) -> Measured:
    """Return the measures of masks given as logits float32 (N, hl, wl) over the frame's canvas.

    offset: how far the cut is moved for the stability (SAM's stability_score_offset). place: of
    the view in its image; None: it is the image.
    """
    place = place or Place((0, 0), frame.view)
    if way == "auto" and loader.kernels is not None and logits.device.type == "cpu":
        return _looked(logits, frame, offset, place)
    if logits.device.type != "cpu":
        return _there(logits, frame, offset, place)
    parts = list(_parts(logits, frame, offset, way == "exact"))
    none = _Part(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), [])
    return Measured(
        torch.cat([none.stability, *(part.stability for part in parts)]),
        torch.cat([none.areas, *(part.areas for part in parts)]),
        torch.cat([none.boxes, *(part.boxes for part in parts)]),
        partial(_coded, [outline for part in parts for outline in part.outlines], place),
    )


def _looked(logits: Tensor, frame: Frame, offset: float, place: Place) -> Measured:
    """What the kernels make of masks."""
    rows, columns = Interpolation.of(frame, (logits.shape[1], logits.shape[2])).bands
    counts = np.zeros((len(logits), 7), np.int64)
    masks = logits.contiguous().numpy()
    edges: list[bytes] = [b""] * len(masks)

    def run(some: slice) -> None:
        arrays = [masks[some], rows.first, rows.weights, columns.first, columns.weights]
        edges[some] = loader.kernels.look(
            len(masks[some]),
            rows.sizes,
            columns.sizes,
            (*place.origin, place.size[0]),
            offset,
            frame.interpolation == "bilinear",
            [*arrays, counts[some]],
        )

    loader.in_threads(run, len(masks))
    return _counted(torch.from_numpy(counts), partial(_coded_edges, edges, place.size))


def _counted(counts: Tensor, codes: Callable[[Sequence[int]], list[Rle]]) -> Measured:
    """What int64 (N, 7) say of masks: px above -offset, 0, offset, and the box."""
    return Measured(counts[:, 2].int() / counts[:, 0], counts[:, 1], counts[:, 3:].float(), codes)


def _coded_edges(edges: Sequence[bytes], size: Size, rows: Sequence[int]) -> list[Rle]:
    return [rle.encode_edges(np.frombuffer(edges[row], np.int64), size) for row in rows]


def _there(logits: Tensor, frame: Frame, offset: float, place: Place) -> Measured:
    """What a device makes of masks."""
    counts = [logits.new_zeros(0, 7, dtype=torch.int64)]
    for some in torch.split(logits, _together(frame)):
        full = frame.to_view(some)
        above = [(full > cut).flatten(1).sum(1) for cut in (-offset, 0.0, offset)]
        counts.append(torch.cat([torch.stack(above, 1), mask_ops.mask_to_box(full > 0)], 1))
    return _counted(torch.cat(counts).cpu(), partial(_coded_there, logits, frame, place))


def _coded_there(logits: Tensor, frame: Frame, place: Place, rows: Sequence[int]) -> list[Rle]:
    """Codes of masks on a device, which are interpolated again: to keep all until it is known which
    of them are wanted would take a byte for every pixel of each."""
    (x, y), height = place.origin, place.size[0]
    codes = []
    for some in torch.split(torch.tensor(rows, dtype=torch.int64), _together(frame)):
        if not len(some):
            continue
        masks = frame.to_view(logits[sent(some, logits.device)]) > 0
        columns = F.pad(masks.transpose(1, 2), (1, 1))
        changes = columns[..., 1:] != columns[..., :-1]
        column, row = changes.nonzero()[:, 1:].T
        edges = torch.cat([changes.flatten(1).sum(1), (column + x) * height + row + y])
        counts, found = np.split(edges.cpu().numpy(), [len(some)])
        each = np.split(found, np.cumsum(counts)[:-1])
        codes += [rle.encode_columns(edges, place.size) for edges in each]
    return codes


def _together(frame: Frame) -> int:
    """How many masks a device enlarges at a time."""
    sizes = [frame.view] if frame.resize == "one-step" else [frame.view, frame.canvas]
    return max(1, WORKING_SET_THERE // (4 * max(height * width for height, width in sizes)))


def _coded(
    outlines: Sequence[Callable[[], Outline]], place: Place, rows: Sequence[int]
) -> list[Rle]:
    """Masks of a view as run lengths over the image."""
    codes = []
    for row in rows:
        found = outlines[row]()
        x, y = found.origin[0] + place.origin[0], found.origin[1] + place.origin[1]
        codes.append(rle.encode_outline(replace(found, origin=(x, y)), place.size))
    return codes


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
    if frame.is_identity(logits):
        yield from (_region(mask.numpy(), offset) for mask in logits)
    elif frame.interpolation != "bilinear" or exact:
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
    areas, boxes = masks.flatten(1).sum(1), mask_ops.mask_to_box(masks).float()
    outlines = [partial(Outline.of, mask) for mask in masks.numpy()]
    return _Part(mask_ops.stability(full, offset), areas, boxes, outlines)
