"""A contact sheet: a row per image, a column per sampler, masks drawn over the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from everything.io.images.decode import read_image
from everything.io.images.sources import Source
from everything.io.results.reader import Results
from everything.io.storage.output_folder import OutputFolder
from everything.masks.drawing import Pixels, overlay

PHOTOS = 4  # at most
CELL = (300, 225)  # px, a photo's largest width and height
GAP, HEAD, QUALITY = 6, 24, 82  # px, px, of JPEG
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def write_sheet(labels: Mapping[str, Path], photos: Sequence[Source], to: Path) -> Path:
    """Write a JPEG of the first images, at most PHOTOS.

    Args:
        labels: Results folder of these images for each sampler's name.
        photos: The images.
        to: The file to write.

    Returns:
        `to`.

    Raises:
        ImageError: If an image cannot be read.
    """
    chosen = photos[:PHOTOS]
    small = [_fitted(Image.fromarray(read_image(photo.path).pixels)) for photo in chosen]
    across, down = CELL[0] + GAP, [image.height + GAP for image in small]
    sheet = Image.new("RGB", (across * len(labels) - GAP, HEAD + sum(down) - GAP), _PAPER)
    ink, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for column, (sampler, folder) in enumerate(labels.items()):
        results, x, y = Results(folder), column * across, HEAD
        ink.text((x + CELL[0] // 2, 2), sampler, _INK, font, anchor="ma")
        for photo, image, height in zip(chosen, small, down, strict=True):
            drawn = overlay(_pixels(image), results.read(photo.name).annotations)
            sheet.paste(Image.fromarray(drawn), (x + (CELL[0] - image.width) // 2, y))
            y += height
    buffer = BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    output = OutputFolder(to.parent, "benchmark")
    output.claim(to.name)
    output.write(to.name, buffer.getvalue())
    output.finish()
    return to


def _fitted(image: Image.Image) -> Image.Image:
    scale = min(CELL[0] / image.width, CELL[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _pixels(image: Image.Image) -> Pixels:
    return np.array(image)
