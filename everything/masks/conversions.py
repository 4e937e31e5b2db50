"""Masks in the forms of other tools' Python packages, each imported when it is asked for."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everything.core import rle
from everything.core.geometry import Size
from everything.core.rle import Rle
from everything.core.sa1b import Annotation
from everything.errors import EverythingError

if TYPE_CHECKING:
    import fiftyone
    import pandas as pd
    import supervision


def class_ids(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the number of each name, from 0: its place in `classes`, where names that are not
    there follow as they appear."""
    known = {name: number for number, name in enumerate(dict.fromkeys([*classes, *names]))}
    return [known[name] for name in names]


def coco_annotations(
    records: Sequence[Annotation], image_id: int, first_id: int, categories: Sequence[int]
) -> list[dict[str, Any]]:
    """Return COCO annotations of SA-1B records: IDs from `first_id` on.

    COCO's boxes reach to the far edge of the last pixel, SA-1B's to its near one.

    Args:
        records: SA-1B's.
        image_id: The image's ID.
        first_id: The first annotation's ID.
        categories: The ID of each mask's category.
    """
    codes = [record["segmentation"] for record in records]
    return [
        {
            "id": first_id + row,
            "image_id": image_id,
            "category_id": categories[row],
            "segmentation": record["segmentation"],
            "bbox": box.tolist(),
            "area": record["area"],
            "iscrowd": 0,
            "score": record["predicted_iou"],
        }
        for row, (record, box) in enumerate(zip(records, rle.boxes(codes), strict=True))
    ]


def data_frame(records: Sequence[Annotation]) -> pd.DataFrame:
    """Return a table with a row per record and a column per field."""
    frame: pd.DataFrame = _package("pandas").DataFrame.from_records(list(records))
    return frame


def supervision_detections(
    boxes: NDArray[np.float32],
    masks: NDArray[np.bool_],
    scores: NDArray[np.float32],
    names: Sequence[str],
    ids: Sequence[int],
) -> supervision.Detections:
    """Return supervision's detections.

    With a class, supervision's annotators draw them without further settings.

    Args:
        boxes: float32 (N, 4) xyxy, image px.
        masks: bool (N, H, W).
        scores: float32 (N,).
        names: The class of each.
        ids: The number of each one's class, from 0.
    """
    detections: supervision.Detections = _package("supervision").Detections(
        xyxy=boxes,
        mask=masks,
        confidence=scores,
        class_id=np.array(ids, int),
        data={"class_name": np.array(names, dtype=object)},
    )
    return detections


def fiftyone_detections(
    codes: Sequence[Rle], scores: Sequence[float], size: Size, labels: Sequence[str]
) -> fiftyone.Detections:
    """Return FiftyOne's detections: boxes relative to the image, masks cut to their boxes.

    Args:
        codes: The masks; those without pixels are left out, since FiftyOne has no form for them.
        scores: Confidence of each.
        size: (H, W) of the image, px.
        labels: The label of each.
    """
    package, found = _package("fiftyone"), []
    for code, score, label in zip(codes, scores, labels, strict=True):
        mask, (x, y) = rle.cut(code)
        if mask.size:
            box = [x / size[1], y / size[0], mask.shape[1] / size[1], mask.shape[0] / size[0]]
            one = package.Detection(label=label, bounding_box=box, mask=mask, confidence=score)
            found.append(one)
    detections: fiftyone.Detections = package.Detections(detections=found)
    return detections


def html_picture(pixels: NDArray[np.uint8], caption: str) -> str:
    """Return an HTML figure that holds its picture, uint8 (H, W, 3) RGB."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    picture = f'<img src="data:image/jpeg;base64,{data}" alt="the image with its masks">'
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise EverythingError(f"{name} is not installed: pip install {name}") from error
