"""Measuring masks at full resolution as a Triton kernel: the sibling of kernels/mask_stats.hpp.

A mask is interpolated in registers, tile by tile, counted above the three thresholds, boxed, and
kept as bits: nothing else of full resolution is in memory.

This module imports Triton, and is imported only where it is used. With TRITON_INTERPRET=1 it runs
on a CPU.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, no-any-return"
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


@triton.jit
def _interpolated(
    logits, down, across, x, y, height, width, low_width,
    DOWN: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """Logits at columns x and rows y of the view, (C, R); 0 outside.

    down, across: for each row and column of the view the first of the cells that it mixes, and
    their weights.
    """
    tall, wide = (y >= 0) & (y < height), x < width
    top = tl.load(down + y * (DOWN + 1), mask=tall, other=0.0).to(tl.int32)
    left = tl.load(across + x * (ACROSS + 1), mask=wide, other=0.0).to(tl.int32)
    inside = wide[:, None] & tall[None, :]
    total = inside.to(tl.float32) * 0.0
    for j in tl.static_range(ACROSS):
        column = total * 0.0
        for i in tl.static_range(DOWN):
            weight = tl.load(down + y * (DOWN + 1) + 1 + i, mask=tall, other=0.0)
            cells = (top + i)[None, :] * low_width + (left + j)[:, None]
            column += weight[None, :] * tl.load(logits + cells, mask=inside, other=0.0)
        weight = tl.load(across + x * (ACROSS + 1) + 1 + j, mask=wide, other=0.0)
        total += weight[:, None] * column
    return total


@triton.jit
def measure(
    logits, down, across, numbers, bits, height, width, low_width, low_area, column_bytes,
    lowest, threshold, highest,
    DOWN: tl.constexpr, ACROSS: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Measure COLUMNS columns of a mask, ROWS rows at a time.

    numbers (N, 8) of zeros gets, added up: px above each cut, and run edges; and as maxima, from 1
    on, the places of the box, the first ones counted from the other end: see
    `fused_measuring.measured`. bits: see `device_masks.Bits`.
    """
    mask = tl.program_id(0).to(tl.int64)
    logits += mask * low_area
    numbers += mask * 8
    bits += mask * width * column_bytes
    x = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    bytes_ = tl.arange(0, ROWS // 8)
    outer = tl.zeros((COLUMNS,), tl.int32)
    area, inner, begun = outer, outer, outer
    upper, lower = tl.zeros((ROWS,), tl.int32), tl.zeros((ROWS,), tl.int32)
    for start in range(0, column_bytes * 8, ROWS):
        y = start + tl.arange(0, ROWS)
        inside = (x < width)[:, None] & (y < height)[None, :]
        full = _interpolated(
            logits, down, across, x, y, height, width, low_width, DOWN, ACROSS
        )  # fmt: skip
        before = _interpolated(
            logits, down, across, x, y - 1, height, width, low_width, DOWN, ACROSS
        )  # fmt: skip
        on = ((full > threshold) & inside).to(tl.int32)
        outer += tl.sum(((full > lowest) & inside).to(tl.int32), 1)
        area += tl.sum(on, 1)
        inner += tl.sum(((full > highest) & inside).to(tl.int32), 1)
        goes_on = ((before > threshold) & (y > 0)[None, :]).to(tl.int32)
        begun += tl.sum(on * (1 - goes_on), 1)
        row = tl.max(on, 0)
        upper = tl.maximum(upper, row * (height - y))
        lower = tl.maximum(lower, row * (y + 1))
        packed = tl.reshape(on << (y % 8)[None, :], (COLUMNS, ROWS // 8, 8))
        at = x[:, None] * column_bytes + (start // 8 + bytes_)[None, :]
        stored = (x < width)[:, None] & ((start // 8 + bytes_) < column_bytes)[None, :]
        tl.store(bits + at, tl.sum(packed, 2).to(tl.uint8), mask=stored)
    column = (area > 0).to(tl.int32)
    tl.atomic_add(numbers, tl.sum(outer, 0))
    tl.atomic_add(numbers + 1, tl.sum(area, 0))
    tl.atomic_add(numbers + 2, tl.sum(inner, 0))
    tl.atomic_max(numbers + 3, tl.max(column * (width - x), 0))
    tl.atomic_max(numbers + 4, tl.max(upper, 0))
    tl.atomic_max(numbers + 5, tl.max(column * (x + 1), 0))
    tl.atomic_max(numbers + 6, tl.max(lower, 0))
    tl.atomic_add(numbers + 7, 2 * tl.sum(begun, 0))
