"""What the filters want to know of a mask at full resolution: stability, box, and its run lengths.

On a CPU the compiled kernels interpolate a mask column by column and keep only counts and the
places where it begins and ends. Without them a mask is brought to full resolution only where it
matters: inside its region of interest, the cells whose logit exceeds the lowest threshold and those
that interpolation mixes with them, since all else is at most that; on large photos only along its
outline (block_interpolation.py). Where SAM's own arithmetic is asked for, and for bicubic frames,
whose interpolation overshoots the logits, whole masks are interpolated. So they are on
accelerators (device_masks.py), where a Triton kernel does it without keeping what it interpolates.
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

from everything.core import mask_ops, rle
from everything.core.geometry import Frame
from everything.core.interpolation import Interpolation
from everything.core.mask_ops import Cuts
from everything.core.rle import Outline, Rle
from everything.kernels import loader, run_lengths
from everything.pipeline import fused_measuring
from everything.pipeline.block_interpolation import Blocks
from everything.pipeline.device_masks import DeviceMasks, Place

WORKING_SET = 64 * 2**20  # bytes of full-resolution logits that are held at a time
DEVICE_MEMORY = 256 * 2**20  # the same on an accelerator, if nothing else is asked for
LARGE = 2**17  # px of a region, beyond which its outline alone is interpolated

# "auto": by the kernels, where there are any. "torch": without them. "exact": with SAM's own order
# of additions, which decides the side of pixels that lie on the cut.
Arithmetic = Literal["auto", "torch", "exact"]


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
    codes: Callable[[Sequence[int]], Sequence[Rle]]


def measure(
    logits: Tensor,
    frame: Frame,
    offset: float,
    arithmetic: Arithmetic = "auto",
    place: Place | None = None,
    memory: int = DEVICE_MEMORY,
    threshold: float = 0.0,
) -> Measured:
    """Return the measures of masks given as logits float32 (N, hl, wl) over the frame's canvas.

    offset: how far the threshold is moved for the stability (SAM's stability_score_offset). place:
    of the view in its image; None: it is the image. threshold: SAM's mask_threshold.
    """
    place, cuts = place or Place((0, 0), frame.view), Cuts.of(offset, threshold)
    if arithmetic == "auto" and loader.kernels is not None and logits.device.type == "cpu":
        return _by_kernels(logits, frame, cuts, place)
    if logits.device.type != "cpu":
        fused = arithmetic == "auto" and fused_measuring.serves(logits)
        masks = DeviceMasks.of(logits, frame, cuts, place, memory, fused)
        return Measured(masks.stability, masks.areas, masks.boxes, masks.rles)
    parts = list(_parts(logits, frame, cuts, arithmetic == "exact"))
    none = _Part(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), [])
    return Measured(
        torch.cat([none.stability, *(part.stability for part in parts)]),
        torch.cat([none.areas, *(part.areas for part in parts)]),
        torch.cat([none.boxes, *(part.boxes for part in parts)]),
        partial(_coded, [outline for part in parts for outline in part.outlines], place),
    )


def _by_kernels(logits: Tensor, frame: Frame, cuts: Cuts, place: Place) -> Measured:
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
            cuts,
            frame.interpolation == "bilinear",
            [*arrays, counts[some]],
        )

    loader.in_threads(run, len(masks))
    outer, areas, inner = torch.from_numpy(counts[:, :3]).T
    boxes = torch.from_numpy(counts[:, 3:]).float()
    codes = partial(_coded_edges, edges, place)
    return Measured(inner.int() / outer, areas, boxes, codes)


def _coded_edges(edges: Sequence[bytes], place: Place, rows: Sequence[int]) -> list[Rle]:
    each = [np.frombuffer(edges[row], np.int64) for row in rows]
    return run_lengths.encode(each, place.size)


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


def _parts(logits: Tensor, frame: Frame, cuts: Cuts, exact: bool) -> Iterator[_Part]:
    low = (logits.shape[1], logits.shape[2])
    if not len(logits):
        return
    if frame.is_identity(logits):
        yield from (_region(mask.numpy(), cuts) for mask in logits)
    elif frame.interpolation != "bilinear" or exact:
        height, width = frame.view
        together = max(1, WORKING_SET // (4 * height * width))
        yield from (_whole(some, frame, cuts) for some in torch.split(logits, together))
    else:
        interpolation, blocks = Interpolation.of(frame, low), Blocks.of(frame, low)
        yield from (_enlarged(mask, interpolation, blocks, cuts) for mask in logits)


def _enlarged(logits: Tensor, interpolation: Interpolation, blocks: Blocks, cuts: Cuts) -> _Part:
    """A mask given as logits (hl, wl)."""
    near = logits.numpy() > cuts.outer
    if not near.any():
        return _region(near[:0, :0].astype(np.float32), cuts)
    box = _box(near)
    if blocks.is_faster and interpolation.area(box) > LARGE:
        return _by_block(logits, blocks, cuts)
    part, origin = interpolation.region(logits, box)
    return _region(part.numpy(), cuts, origin)


def _by_block(logits: Tensor, blocks: Blocks, cuts: Cuts) -> _Part:
    found = blocks.measure(logits, cuts)
    outer, area, inner = found.counts
    return _Part(
        torch.tensor([inner], dtype=torch.int32) / outer,
        torch.tensor([area]),
        torch.tensor([found.box()], dtype=torch.float32),
        [found.outline],
    )


def _region(logits: NDArray[np.float32], cuts: Cuts, origin: tuple[int, int] = (0, 0)) -> _Part:
    """A mask of which logits (h, w), at `origin` (x, y) of the view, hold all above the outer cut.

    Counts whole-array comparisons, which is what a large mask costs: numpy's are fast.
    """
    outer, inner = (int(np.count_nonzero(logits > cut)) for cut in (cuts.outer, cuts.inner))
    mask = logits > cuts.mask
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


def _whole(logits: Tensor, frame: Frame, cuts: Cuts) -> _Part:
    full = frame.to_view(logits)
    masks = full > cuts.mask
    areas, boxes = masks.flatten(1).sum(1), mask_ops.mask_to_box(masks).float()
    outlines = [partial(Outline.of, mask) for mask in masks.numpy()]
    return _Part(mask_ops.stability_at(full, cuts), areas, boxes, outlines)
