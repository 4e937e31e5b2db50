"""Drawing: a region as logits that grow with the distance from its contour, and with certainty."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything.bundled.region_tree import Ints, Regions
from everything.kernels import loader

REACH = 3  # px to either side of the contour over which logits grow
SLOPE = 3.0  # logits per px: 1.5 beside the contour passes SAM's stability test, whose offset is 1
FAR = SLOPE * (REACH + 0.5)
CERTAIN = 10.0  # logits that a region without any contour in it gains where it is FAR

Mask = NDArray[np.bool_]


def draw(regions: Regions, nodes: list[int]) -> Tensor:
    """Return logits float32 (K, h, w) of K regions: SLOPE times the distance to the contour in px,
    negative outside, constant from REACH + 0.5 px on.

    There, inside, they are FAR and up to CERTAIN more, the weaker the contour at which the region's
    two halves met: where nothing divides a region no prompt finds anything else, which is what the
    hierarchical sampler asks of a logit. What is far outside is -FAR.

    Distances are counted in steps of one px that go to the 4 and to the 8 neighbours in turn,
    whose circles are octagons (Rosenfeld and Pfaltz, 1968).
    """
    height, width = regions.place.shape
    boxes = regions.boxes[nodes] + np.array([-REACH, -REACH, REACH, REACH])
    boxes = boxes.clip(0, [width, height, width, height])
    certain = (CERTAIN * (1 - regions.altitude[nodes].clip(max=1))).astype(np.float32)
    if loader.kernels is not None:
        return _by_kernels(regions, nodes, boxes, certain)
    logits = torch.full((len(nodes), height, width), -FAR)
    for row, node, box, more in zip(logits.numpy(), nodes, boxes.tolist(), certain, strict=True):
        x0, y0, x1, y1 = box
        place = regions.place[y0:y1, x0:x1]
        inside = (place >= regions.first[node]) & (place < regions.last[node])
        steps = _steps(inside)
        np.multiply(steps, np.float32(SLOPE), out=row[y0:y1, x0:x1])
        row[y0:y1, x0:x1] -= FAR
        row[y0:y1, x0:x1][steps == 2 * REACH + 1] += more
    return logits


def _by_kernels(
    regions: Regions, nodes: list[int], boxes: Ints, certain: NDArray[np.float32]
) -> Tensor:
    place = np.ascontiguousarray(regions.place)
    logits = torch.empty((len(nodes), *place.shape))
    each = np.column_stack([regions.first[nodes], regions.last[nodes], boxes])
    masks = logits.numpy()

    def run(some: slice) -> None:
        loader.kernels.regions(
            len(masks[some]),
            place.shape,
            REACH,
            SLOPE,
            FAR,
            [place, each[some], certain[some], masks[some]],
        )

    loader.in_threads(run, len(masks))
    return logits


def _steps(inside: Mask) -> NDArray[np.uint8]:
    """How many steps each place of a mask (h, w) is from being REACH px outside, uint8 (h, w).

    Beyond the image all goes on as at its edge, so that regions there have no contour.
    """
    steps = inside.astype(np.uint8)
    outer, rest = inside, ~inside
    for step in range(REACH):
        corners = step % 2 == 1
        outer, rest = _grown(outer, corners), _grown(rest, corners)
        steps += outer
        steps += ~rest
    return steps


def _grown(mask: Mask, corners: bool) -> Mask:
    """A mask with the 4 neighbours, or with `corners` the 8 neighbours, of its pixels."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    sideways = grown.copy() if corners else mask
    grown[:, 1:] |= sideways[:, :-1]
    grown[:, :-1] |= sideways[:, 1:]
    return grown
