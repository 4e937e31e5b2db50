"""Pure tensor functions on masks and boxes."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from everything.core.geometry import Box, Size

EDGE_TOLERANCE = 20.0  # px; SAM's is_box_near_crop_edge


class Cuts(NamedTuple):
    """The logits that a pixel must exceed: for the larger mask of the stability score, for the
    mask itself, and for the smaller one."""

    outer: float
    mask: float
    inner: float

    @classmethod
    def of(cls, offset: float, threshold: float = 0.0) -> Self:
        """Return the cuts of SAM's stability_score_offset and mask_threshold."""
        return cls(threshold - offset, threshold, threshold + offset)


def stability(logits: Tensor, offset: float) -> Tensor:
    """Return the stability scores of masks at threshold 0: see `stability_at`."""
    return stability_at(logits, Cuts.of(offset))


def stability_at(logits: Tensor, cuts: Cuts) -> Tensor:
    """Return the stability scores of masks, float32 (N,).

    The score is the IoU of the mask at the inner cut with that at the outer one (SAM, appendix
    "Automatic mask generation details"). It is NaN, which fails every threshold, if both are empty.

    Args:
        logits: (N, h, w).
        cuts: Of the masks.
    """
    inner = (logits > cuts.inner).flatten(1).sum(1, dtype=torch.int32)
    outer = (logits > cuts.outer).flatten(1).sum(1, dtype=torch.int32)
    return inner / outer


def mask_to_box(masks: Tensor) -> Tensor:
    """Return the boxes int64 (N, 4) xyxy, inclusive px, of masks bool (N, h, w); 0 if empty."""
    if masks.numel() == 0:
        return torch.zeros(len(masks), 4, dtype=torch.int64, device=masks.device)
    x0, x1 = extent(masks.any(1))
    y0, y1 = extent(masks.any(2))
    boxes = torch.stack([x0, y0, x1, y1], 1)
    return boxes * masks.flatten(1).any(1, keepdim=True)


def extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last true column of each row of bool (N, L), int64 (N,) each.

    A row without any gives 0 and L - 1.
    """
    flags = occupied.to(torch.uint8)
    return flags.argmax(1), flags.shape[1] - 1 - flags.flip(1).argmax(1)


def cut_off(boxes: Tensor, crop: Box, image_size: Size) -> Tensor:
    """Return which boxes are probably cut off by the edge of a crop, bool (N,).

    A side of such a box is within 20 px of a side of the crop, but not of the image's.

    Args:
        boxes: (N, 4) xyxy, image px.
        crop: The crop, image px.
        image_size: (H, W) of the image.
    """
    height, width = image_size
    near_crop = (boxes - boxes.new_tensor(crop)).abs() <= EDGE_TOLERANCE
    near_image = (boxes - boxes.new_tensor([0, 0, width, height])).abs() <= EDGE_TOLERANCE
    return (near_crop & ~near_image).any(1)
