"""A label folder to hand over: parts, holes, overlaps, one pixel, nothing, equal stems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.io.results.reader import Results
from tests.labelled import disc, write_labels

SIZE = (120, 160)


def masks() -> list[NDArray[np.bool_]]:
    """A ring; four parts, one of them with a hole; a nested part; one pixel; a thin diagonal; a
    whole photo with a hole; a mask at all four borders."""
    four = np.zeros(SIZE, bool)
    for centre in [(30, 30), (130, 30), (30, 90), (130, 95)]:
        four |= disc(SIZE, centre, 18)
    four &= ~disc(SIZE, (30, 30), 7)
    ring = disc(SIZE, (80, 60), 40) & ~disc(SIZE, (80, 60), 15)
    pixel = np.zeros(SIZE, bool)
    pixel[5, 150] = True
    diagonal = np.zeros(SIZE, bool)
    diagonal[range(100, 116), range(60, 76)] = True
    cross = np.zeros(SIZE, bool)
    cross[58:63], cross[:, 100:103] = True, True
    return [~disc(SIZE, (80, 60), 12), ring, four, disc(SIZE, (80, 100), 9), pixel, diagonal, cross]


def write_handed(home: Path) -> Results:
    """Labels in home/labels of photos in home/photos."""
    photos = {
        "a/four.png": masks(),
        "a/four.jpg": masks()[:2],
        "b c é.png": [disc((50, 40), (20, 25), 12)],
        "empty.png": [np.zeros((30, 40), bool)],
    }
    write_labels(home / "labels", home / "photos", photos)
    return Results(home / "labels")


def written_masks(results: Results, key: str) -> NDArray[np.bool_]:
    """The masks (N, H, W) that were given, those without a pixel left out."""
    result = results.read(key)
    found = rle.decode([a["segmentation"] for a in result.annotations], result.size)
    return found[found.any((1, 2))]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())
