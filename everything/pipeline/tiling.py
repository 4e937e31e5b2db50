"""Photos that are too large for one look: tiles that overlap, each segmented like a photo.

What is held is one tile, and the run lengths of the masks: not the photo where its file can be read
by regions (everything/io/images/tiff_regions.py), and never a mask of the whole photo.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from everything.config import Tiles
from everything.core.geometry import Box, Size
from everything.core.raster import Raster
from everything.core.stage_timer import StageTimer
from everything.masks.segments import Segments
from everything.pipeline.tile_stitching import (
    Edge,
    edge_of,
    find_links,
    in_image,
    merge_linked,
    overlap,
)


def tile_boxes(size: Size, tiles: Tiles) -> list[Box]:
    """Return boxes of at most tile_side px that cover an image of (H, W) px, row by row; neighbours
    share at least tile_overlap px."""
    rows, columns = (_starts(length, tiles) for length in size)
    side = tiles.tile_side
    return [
        (x, y, min(x + side, size[1]), min(y + side, size[0])) for y, x in product(rows, columns)
    ]


def _starts(length: int, tiles: Tiles) -> list[int]:
    """Evenly spread, so that the last tile is as large as the others."""
    side, step = tiles.tile_side, tiles.tile_side - tiles.tile_overlap
    last = max(0, length - side)
    count = -(-last // step)
    return [round(last * i / count) for i in range(count)] + [last] if count else [0]


def over_tiles(
    raster: Raster, tiles: Tiles, look: Callable[[NDArray[np.uint8]], Segments], timer: StageTimer
) -> Segments:
    """Return what `look` finds in every tile, uint8 (h, w, 3), joined across the seams."""
    found: list[Segments] = []
    same: list[tuple[int, int]] = []
    # Edges of tiles whose neighbours to the right or below are still to come.
    waiting: dict[tuple[Box, Box], Edge] = {}
    boxes = tile_boxes(raster.size, tiles)
    count = 0
    for box in boxes:
        with timer.stage("read"):
            pixels = raster.read(box)
        segments = look(pixels)
        with timer.stage("finish"):
            for other in _neighbours(box, boxes):
                shared = overlap(box, other)
                assert shared is not None
                mine = edge_of(segments, count, box, shared)
                if (other, box) in waiting:
                    same += find_links(waiting.pop((other, box)), mine, tiles.seam_iou)
                else:
                    waiting[box, other] = mine
            found.append(in_image(segments, box, raster.size))
        count += len(segments)
    with timer.stage("finish"):
        return merge_linked(Segments.cat(found), same)


def _neighbours(box: Box, boxes: list[Box]) -> list[Box]:
    """The tiles in the same row or column that overlap this one and touch it."""
    beside = [b for b in boxes if b != box and (b[1] == box[1] or b[0] == box[0])]
    return [b for b in beside if overlap(box, b) is not None]
