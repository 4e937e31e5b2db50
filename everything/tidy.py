"""Clean-up of masks: small holes are filled, small islands removed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torchvision.ops import nms as box_nms

from everything import ops, rle
from everything.segments import Segments
from everything.view import Size

_EIGHT_NEIGHBOURS = np.ones((3, 3), np.int8)


def tidy(segments: Segments, min_area: int, nms_thresh: float, size: Size) -> Segments:
    """Return the segments without holes or islands below `min_area` px, duplicates removed.

    A box NMS at `nms_thresh` follows in which untouched masks come first; scores and stability
    stay as they were found (SAM's min_mask_region_area). size: (H, W) of the image.
    """
    rles, boxes = list(segments.rles), segments.boxes.clone()
    untouched = torch.ones(len(segments))
    for row, code in enumerate(segments.rles):
        mask = rle.decode([code], size)[0]
        window = _window(boxes[row].int().tolist(), size)
        clean = _clean(mask, window, min_area)
        if clean is None:
            continue
        untouched[row] = 0
        rles[row] = rle.encode(clean, (0, 0), size)
        boxes[row] = ops.mask_to_box(torch.from_numpy(clean)[None])[0].float()
    cleaned = replace(segments, rles=rles, boxes=boxes)
    return cleaned[box_nms(boxes, untouched, nms_thresh)]


def _clean(
    mask: NDArray[np.bool_], window: tuple[slice, slice], min_area: int
) -> NDArray[np.bool_] | None:
    """The clean mask (H, W), or None if it is clean; looked at inside its window if possible."""
    part = mask[window]
    background, sizes = _components(~part)
    outside = np.unique(background[_open_border(window, mask.shape)])
    if (sizes[outside[outside > 0] - 1] < min_area).any():
        # Some background goes on beyond the window: how large it is, the whole image tells.
        part, window = mask, (slice(None), slice(None))
    clean = without_islands(without_holes(part, min_area), min_area)
    if clean is part:
        return None
    whole = mask.copy()
    whole[window] = clean
    return whole


def _window(box: list[int], size: Size) -> tuple[slice, slice]:
    """A box xyxy inclusive and one pixel around it, inside the image."""
    x0, y0, x1, y1 = box
    rows = slice(max(y0 - 1, 0), min(y1 + 2, size[0]))
    return rows, slice(max(x0 - 1, 0), min(x1 + 2, size[1]))


def _open_border(window: tuple[slice, slice], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels of a window beyond which the image goes on, bool of the window's shape."""
    rows, columns = window
    border = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
    border[0] |= rows.start > 0
    border[-1] |= rows.stop < size[0]
    border[:, 0] |= columns.start > 0
    border[:, -1] |= columns.stop < size[1]
    return border


def without_holes(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) with every hole below `min_area` px filled, itself if there is none.

    A hole is an 8-connected component of the background, the outside included, as in SAM.
    """
    labels, sizes = _components(~mask)
    small = sizes < min_area
    if not small.any():
        return mask
    filled: NDArray[np.bool_] = mask | np.append(False, small)[labels]
    return filled


def without_islands(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) without 8-connected components below `min_area` px, itself if there
    is none; if all are below, the largest stays."""
    labels, sizes = _components(mask)
    small = sizes < min_area
    if not small.any():
        return mask
    if small.all():
        small[sizes.argmax()] = False
    kept: NDArray[np.bool_] = np.append(False, ~small)[labels]
    return kept


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label map and the size of every 8-connected component, px."""
    labels, _ = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel())[1:]
    return labels, sizes
