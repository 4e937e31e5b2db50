"""torchvision's box NMS without torchvision.

Its package imports torch's compiler with triton and sympy: 160 MB and seconds in every process, for
one operation whose shared library can be loaded by itself.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor


def box_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices, int64 (K,), of the boxes that no better one overlaps, best first.

    boxes: float32 (N, 4), XYXY pixels. scores: float32 (N,). A box goes whose IoU with a better
    one exceeds the threshold: this is torchvision.ops.nms.
    """
    _load()
    kept: Tensor = torch.ops.torchvision.nms(boxes, scores, iou_threshold)
    return kept


@cache
def _load() -> None:
    spec = find_spec("torchvision")
    folders = () if spec is None else spec.submodule_search_locations or ()
    for library in (path for folder in folders for path in Path(folder).glob("_C*.so")):
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    if not hasattr(torch.ops.torchvision, "nms"):  # built in some other way
        import torchvision  # noqa: F401
