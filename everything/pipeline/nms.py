"""Suppression of duplicates: by boxes, by masks, by containment."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from everything.core import rle
from everything.core.device import fetched, sent
from everything.masks.segments import Segments
from everything.pipeline.device_masks import DeviceRles

MANY = 512  # boxes, which take a CPU 1 ms; the time grows with their square


def suppress(segments: Segments, scores: Tensor, kind: str, threshold: float) -> Segments:
    """Return the segments that no better one duplicates, best first.

    scores: float32 (N,), what better means. kind: "box" compares the boxes' IoU, as SAM does;
    "mask" the masks' own IoU, which keeps diagonal neighbours; "containment" drops a mask of
    which more than `threshold` lies inside a better one; "none" drops nothing. A duplicate is
    what exceeds the threshold.
    """
    if len(segments) == 0:
        return segments
    return segments[KINDS[kind](segments, scores, threshold)]


def _by_box(segments: Segments, scores: Tensor, threshold: float) -> Tensor:
    device = _device_of(segments)
    if device is None or len(segments) < MANY:
        return box_nms(segments.boxes, scores, threshold)
    # Boxes are on the host, where few are compared faster than the device takes to begin.
    boxes, scores = (sent(x, device) for x in (segments.boxes, scores))
    return fetched(box_nms(boxes, scores, threshold))


def _device_of(segments: Segments) -> torch.device | None:
    """The device on which masks are that are not coded yet."""
    masks = segments.rles.parts if isinstance(segments.rles, DeviceRles) else ()
    return masks[0].bits.device if masks else None


def _by_mask(segments: Segments, scores: Tensor, threshold: float) -> Tensor:
    return _greedy(segments, scores, threshold, within=False)


def _by_containment(segments: Segments, scores: Tensor, threshold: float) -> Tensor:
    return _greedy(segments, scores, threshold, within=True)


def _not_at_all(segments: Segments, scores: Tensor, threshold: float) -> Tensor:
    return scores.argsort(descending=True, stable=True)


def _greedy(segments: Segments, scores: Tensor, threshold: float, within: bool) -> Tensor:
    """Keep the best, drop what overlaps it, and so on.

    Masks meet only where their boxes do, and the quotient of their areas bounds their overlap: most
    pairs need not be compared.
    """
    order = scores.argsort(descending=True, stable=True)
    alive = torch.ones(len(order), dtype=torch.bool)
    boxes = segments.boxes[order]
    overlap = _overlaps(segments, within)
    areas = None if _device_of(segments) else segments.areas[order].double()
    kept = []
    for i, row in enumerate(order.tolist()):
        if not alive[i]:
            continue
        kept.append(row)
        near = alive & _meets(boxes, boxes[i])
        if areas is not None:
            near &= _most(areas, areas[i], within) > threshold
        rest = near.nonzero().flatten()
        rest = rest[rest > i]
        alive[rest[overlap(order[rest], row) > threshold]] = False
    return torch.tensor(kept, dtype=torch.int64)


def _overlaps(segments: Segments, within: bool) -> Callable[[Tensor, int], Tensor]:
    """Return what gives the overlaps, float64 (K,), of some rows int64 (K,) with another row.

    Of masks on a device all intersections are counted there, in one product. Both ways, an overlap
    is the quotient of the same two numbers.
    """
    masks = segments.rles.merged() if isinstance(segments.rles, DeviceRles) else None
    if masks is None:
        codes = segments.rles
        return lambda rows, row: rle.iou([codes[r] for r in rows.tolist()], [codes[row]], within)[
            :, 0
        ]
    shared = masks.intersections().double()
    areas = shared.diagonal()

    def overlap(rows: Tensor, row: int) -> Tensor:
        both = shared[rows, row]
        return both / (areas[rows] if within else areas[rows] + areas[row] - both)

    return overlap


def _most(areas: Tensor, area: Tensor, within: bool) -> Tensor:
    """The largest overlap that masks of these areas can have with a mask of that area: of one
    inside the other. Rounded as the overlaps themselves, so that it is never less."""
    share = torch.minimum(areas, area) / (areas if within else torch.maximum(areas, area))
    return share.nan_to_num()


def _meets(boxes: Tensor, box: Tensor) -> Tensor:
    return ((boxes[:, :2] <= box[2:]) & (boxes[:, 2:] >= box[:2])).all(1)


def box_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices, int64 (K,), of the boxes that no better one overlaps, best first.

    boxes: float32 (N, 4), XYXY pixels. scores: float32 (N,). A box goes whose IoU with a better
    one exceeds the threshold: this is torchvision.ops.nms.
    """
    _load_torchvision_ops()
    kept: Tensor = torch.ops.torchvision.nms(boxes, scores, iou_threshold)
    return kept


# To import torchvision takes seconds and 160 MB in each process (torch's compiler, triton and
# sympy come with it); the operation's shared library can be loaded without it.
@cache
def _load_torchvision_ops() -> None:
    spec = find_spec("torchvision")
    folders = () if spec is None else spec.submodule_search_locations or ()
    for library in (path for folder in folders for path in Path(folder).glob("_C*.so")):
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    if not hasattr(torch.ops.torchvision, "nms"):  # built in some other way
        import torchvision  # noqa: F401


KINDS: dict[str, Callable[[Segments, Tensor, float], Tensor]] = {
    "box": _by_box,
    "mask": _by_mask,
    "containment": _by_containment,
    "none": _not_at_all,
}
