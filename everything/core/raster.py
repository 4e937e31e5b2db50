"""Images that are read by regions, and an image in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from everything.core.geometry import Box, Size


class Raster(Protocol):
    """An image that is read by regions."""

    @property
    def size(self) -> Size:
        """Height and width in px."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the pixels of a box, uint8 (h, w, 3) RGB."""


@dataclass(frozen=True)
class Pixels:
    """An image in memory, uint8 (H, W, 3) RGB."""

    pixels: NDArray[np.uint8]

    @property
    def size(self) -> Size:
        """Height and width in px."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the pixels of a box, uint8 (h, w, 3) RGB."""
        x0, y0, x1, y1 = box
        return self.pixels[y0:y1, x0:x1]
