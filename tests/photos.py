"""Small real images from installed packages."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

NAMES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "hubble_deep_field",
    "immunohistochemistry",
    "camera",
    "coins",
    "moon",
    "bus",
    "zidane",
)


@cache
def photo(name: str, longest: int = 320) -> NDArray[np.uint8]:
    """An image as uint8 (H, W, 3) RGB with its longest side at most `longest` px.

    camera, coins and moon are grey, cut to unusual shapes.
    """
    if name in ("bus", "zidane"):
        package = find_spec("ultralytics")
        assert package is not None
        assert package.origin is not None
        image = Image.open(Path(package.origin).parent / "assets" / f"{name}.jpg")
    else:
        image = Image.fromarray(getattr(skimage.data, name)())
    crop = {"camera": (0, 200, 512, 280), "coins": (100, 0, 190, 303)}.get(name)
    image = (image.crop(crop) if crop else image).convert("RGB")
    image.thumbnail((longest, longest))
    return np.array(image)
