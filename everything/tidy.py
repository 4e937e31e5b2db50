"""Clean-up of masks: small holes are filled, small islands removed."""

from __future__ import annotations

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
        clean = without_islands(without_holes(mask, min_area), min_area)
        if clean is not mask:
            untouched[row] = 0
            cleaned = torch.from_numpy(clean)[None]
            rles[row], boxes[row] = rle.encode(cleaned)[0], ops.mask_to_box(cleaned)[0].float()
    cleaned_up = Segments(
        rles,
        boxes,
        segments.scores,
        segments.stability,
        segments.levels,
        segments.prompts,
        segments.crops,
    )
    return cleaned_up[box_nms(boxes, untouched, nms_thresh)]


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
