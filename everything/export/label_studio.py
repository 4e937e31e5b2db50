"""Label Studio: tasks.json with the masks as brush predictions, and config.xml, the labeling setup.

Its run lengths (rle-pack): 32 bits count of values, 5 bits width of a value less 1, four times 4
bits widths of lengths less 1; then groups: one bit "repeated", two bits which width, the length
less 1, the value or values. Values are the channels of RGBA pixels row by row, 0 or 255.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from everything.core.geometry import Size
from everything.export.writer import ExportJob, JsonList, LabelledImage, Piece

_WIDTHS = (3, 4, 8, 16)  # bits
_CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="masks" toName="image">{labels}</BrushLabels>
</View>
"""


def write(images: Iterable[LabelledImage], job: ExportJob) -> None:
    """Write the tasks; the URL of an image is `job.url` followed by its name."""
    with job.file("tasks.json").open("w", encoding="ascii") as file:
        tasks = JsonList(file)
        file.write("[\n")
        for image in images:
            tasks.append(_task(image, job))
            job.place(image, f"images/{image.name}")
        file.write("\n]\n")
    labels = "".join(f"<Label value={quoteattr(one.name)}/>" for one in job.classes.all())
    job.file("config.xml").write_text(_CONFIG.format(labels=labels), encoding="utf-8")


def _task(image: LabelledImage, job: ExportJob) -> dict[str, Any]:
    masks = [_mask(piece, image.size, job) for piece in image.pieces()]
    job.fidelity.add_exact(len(masks))
    prediction = {"model_version": "everything", "result": masks}
    return {
        "data": {"image": job.url + quote(image.name)},
        "meta": {"file_name": image.name},
        "predictions": [prediction],
    }


def _mask(piece: Piece, size: Size, job: ExportJob) -> dict[str, Any]:
    code, name = encoded(piece.mask, piece.corner, size), job.classes.of(piece.annotation).name
    return {
        "id": f"mask{piece.id}",
        "type": "brushlabels",
        "from_name": "masks",
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "score": piece.annotation.get("predicted_iou"),
        "value": {"format": "rle", "rle": code, "brushlabels": [name]},
    }


def encoded(mask: NDArray[np.bool_], corner: tuple[int, int], size: Size) -> list[int]:
    """Encode a mask bool (h, w) at `corner` (x, y) of an image of (H, W) px as a list of bytes."""
    (x, y), (height, width) = corner, size
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    edges = np.stack([starts, ends], 1) + x + ((rows + y) * width)[:, None]
    lengths = np.diff(edges.ravel(), prepend=0, append=height * width).tolist()
    bits = [f"{4 * height * width:032b}", f"{8 - 1:05b}", *(f"{w - 1:04b}" for w in _WIDTHS)]
    for turn, length in enumerate(lengths):
        bits += _group(4 * length, 255 * (turn % 2))
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _group(length: int, value: int) -> Iterable[str]:
    longest = 1 << _WIDTHS[-1]
    while length > 0:
        part = min(length, longest)
        which = next(i for i, width in enumerate(_WIDTHS) if part <= 1 << width)
        yield f"1{which:02b}{part - 1:0{_WIDTHS[which]}b}{value:08b}"
        length -= part
