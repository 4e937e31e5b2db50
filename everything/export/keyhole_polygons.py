"""Masks as a single outline, for formats without holes and parts (YOLO's).

Every contour, of parts and of holes, is joined to the nearest other one by a bridge, there and
back along the same line, so that filling by the even-odd rule restores parts and holes. Corners are
centres of border pixels: readers of YOLO's labels cut coordinates off to whole pixels and paint the
border too (cv2.fillPoly). What is lost are the pixels under bridges between parts.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Outline = NDArray[np.int32]  # (K, 2) xy px, not closed


def outline_of(mask: NDArray[np.bool_], tolerance: float = 0.0) -> Outline:
    """Return the outline of a mask bool (h, w) with at least one pixel.

    tolerance: how far the outline may deviate from the contour to have fewer corners, px.
    """
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours = [np.asarray(one, np.int32).reshape(-1, 2) for one in found]
    outline = bridged([thinned(one, tolerance) for one in contours])
    if len(outline) > 1:
        outline = _without_straights(outline)
    # A row of YOLO with fewer than three corners would be read as a box.
    return np.resize(outline, (3, 2)) if len(outline) < 3 else outline


def filled(outline: Outline, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask bool (h, w) that readers of an outline get."""
    image = np.zeros(size, np.uint8)
    cv2.fillPoly(image, [outline.astype(np.int32)], 1)
    return image.view(np.bool_)


def thinned(ring: Outline, tolerance: float) -> Outline:
    """Simplify a ring (K, 2) by Douglas and Peucker, with deviations of at most `tolerance` px.

    A ring of which fewer than three corners would remain is returned unchanged.
    """
    if tolerance <= 0:
        return ring
    fewer = np.asarray(cv2.approxPolyDP(ring, tolerance, True), np.int32).reshape(-1, 2)
    return fewer if len(fewer) > 2 else ring


def bridged(contours: list[Outline]) -> Outline:
    """Join rings by bridges to one ring, the nearest first (Prim's minimum spanning tree)."""
    points = np.concatenate(contours)
    starts = np.cumsum([0, *(len(one) for one in contours)])
    owner = np.repeat(np.arange(len(contours)), np.diff(starts))
    distance = np.full(len(points), np.inf)
    partner = np.zeros(len(points), np.int64)
    waiting = np.ones(len(points), np.bool_)
    # bridges[p]: end points, on other contours, of the bridges that start at point p.
    bridges: dict[int, list[int]] = {}
    joined = 0
    for _ in range(len(contours) - 1):
        waiting[starts[joined] : starts[joined + 1]] = False
        rest = np.flatnonzero(waiting)
        new, nearest = cKDTree(contours[joined]).query(points[rest])
        nearer = new < distance[rest]
        distance[rest[nearer]] = new[nearer]
        partner[rest[nearer]] = starts[joined] + nearest[nearer]
        end = int(rest[distance[rest].argmin()])
        bridges.setdefault(int(partner[end]), []).append(end)
        joined = int(owner[end])
    return points[_walk(bridges, starts, owner)]


def _walk(
    bridges: dict[int, list[int]], starts: NDArray[np.int64], owner: NDArray[np.int64]
) -> list[int]:
    """Indices of the points along a walk around all contours, which crosses each bridge twice."""
    path: list[int] = []
    # Ranges of points that are still to be walked, as a stack: (first, last).
    pending = [(int(starts[0]), int(starts[1]))]
    while pending:
        first, last = pending.pop()
        stop = next((p for p in range(first, last) if p in bridges), last)
        path.extend(range(first, min(stop + 1, last)))
        if stop == last:
            continue
        end = bridges[stop].pop()
        if not bridges[stop]:
            del bridges[stop]
        ring = int(owner[end])
        begin, after = int(starts[ring]), int(starts[ring + 1])
        # Back to the point where the bridge starts, which may have another one.
        pending += [(stop, last), (end, end + 1), (begin, end), (end, after)]
    return path


def _without_straights(outline: Outline) -> Outline:
    """Remove repeated points, and those on a straight line between their neighbours."""
    outline = outline[(outline != np.roll(outline, 1, 0)).any(1)]
    before = outline - np.roll(outline, 1, 0)
    after = np.roll(outline, -1, 0) - outline
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept: Outline = outline[(cross != 0) | ((before * after).sum(1) <= 0)]
    return kept
