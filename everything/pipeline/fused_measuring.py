"""Masks measured by one Triton kernel, on CUDA: see triton_measuring.py."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from everything.core.device import sent
from everything.core.geometry import Frame, Size
from everything.core.interpolation import Band, Interpolation
from everything.core.mask_ops import Cuts

WORD = 32  # rows whose bits are stored together
COLUMNS, ROWS = 32, 32  # of a tile


def serves(logits: Tensor) -> bool:
    """Return whether the kernel measures masks given as these logits."""
    is_there = logits.device.type == "cuda" and logits.dtype == torch.float32
    return is_there and find_spec("triton") is not None


def measured(logits: Tensor, frame: Frame, cuts: Cuts) -> tuple[Tensor, Tensor]:
    """Return measures and bits of masks given as logits float32 (N, hl, wl) over the canvas.

    Returns:
        int32 (N, 8): px above the outer, the mask's and the inner cut; for the box, w - x0, h - y0,
        x1 + 1, y1 + 1, 0 for an empty mask; run edges. And the bits: see `device_masks.Bits`.
    """
    down, across = Interpolation.of(frame, (logits.shape[1], logits.shape[2])).bands
    both = torch.cat([_flat(down), _flat(across)])
    height, width = frame.view
    numbers = torch.zeros(len(logits), 8, dtype=torch.int32, device=logits.device)
    size = (len(logits), width, -(-height // WORD) * WORD // 8)
    bits = torch.empty(size, dtype=torch.uint8, device=logits.device)
    sizes = [height, width, down.sizes[2], across.sizes[2]]
    _measure(logits.contiguous(), sent(both, logits.device), numbers, bits, sizes, list(cuts))
    return numbers, bits


def boxes_of(found: Tensor, view: Size) -> Tensor:
    """Return boxes float32 (N, 4) xyxy, inclusive view px, of measures (N, 8) on the CPU; zeros
    for an empty mask."""
    height, width = view
    signed = torch.cat([-found[:, 3:5], found[:, 5:7]], 1)
    boxes = signed + torch.tensor([width, height, -1, -1])
    return boxes.float() * (found[:, 1:2] > 0)


def _flat(band: Band) -> Tensor:
    """Of each row the first cell and the weights of all, float32: cells are far below 2^24."""
    first = torch.from_numpy(band.first)[:, None].float()
    return torch.cat([first, torch.from_numpy(band.weights)], 1).flatten()


@cache
def _kernels() -> Any:
    from everything.pipeline import triton_measuring

    return triton_measuring


@torch.library.custom_op("everything::measure", mutates_args=("numbers", "bits"))
def _measure(
    logits: Tensor,
    bands: Tensor,
    numbers: Tensor,
    bits: Tensor,
    sizes: list[int],
    cuts: list[float],
) -> None:
    height, width, down, across = sizes
    if not bits.numel():
        return
    rows = bands[: height * (down + 1)]
    _, low_height, low_width = logits.shape
    _kernels().measure[(len(logits), -(-width // COLUMNS))](
        logits, rows, bands[len(rows) :], numbers, bits, height, width, low_width,
        low_height * low_width, bits.shape[2], *cuts, down, across, COLUMNS, ROWS,
    )  # fmt: skip
