"""Segments: the masks of one image, compressed, in image pixels, and what can be done with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everything.config import Level
from everything.core import rle
from everything.core.geometry import Size
from everything.core.instance_data import Index, InstanceData
from everything.core.label_map import label_map
from everything.core.mask_hierarchy import check_level, levels_of, parents_of
from everything.core.prompts import INSIDE, Prompts
from everything.core.rle import Rle
from everything.core.sa1b import Annotation
from everything.errors import EverythingError
from everything.masks import conversions
from everything.masks.drawing import Pixels, overlay, scaled_down
from everything.masks.polygons import Part, parts_of

if TYPE_CHECKING:
    import fiftyone
    import pandas as pd
    import supervision
    from PIL.Image import Image

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_SHOWN = 640  # px: the longest side of the picture in a notebook


@dataclass(frozen=True, repr=False)
class Segments(InstanceData):
    """N masks of one image.

    `segments[0]`, or iterating, gives single masks (`Segment`); a slice, a boolean array or an
    array of row numbers gives `Segments`.

    Attributes:
        rles: COCO run-length encodings over the image.
        boxes: float32 (N, 4) xyxy, inclusive image px.
        scores: float32 (N,), predicted IoU.
        stability: float32 (N,), stability score.
        levels: int64 (N,), which of its prompt's masks each one is.
        prompts: N rows, image px.
        crops: int64 (N, 4) xyxy, image px: the view in which each mask was found.
        size: (H, W) of the image, px; that of the masks if it is not given.
        image: uint8 (H, W, 3) RGB, for `plot`; or a function that reads it; or None.
        name: The image's name, or "".
        categories: N names of classes, "" where a mask has none; none at all if they are not given.

    Example:
        >>> from everything import load, segment
        >>> segments = segment(photo("coffee", 128), load("nano", "grid-16", pred_iou_thresh=0.6))
        >>> segments.masks.shape == (len(segments), 85, 128)
        True
        >>> best = segments[:3]
        >>> [mask.area for mask in best] == best.areas.tolist()
        True
        >>> whole = segments.level("whole").filter(pred_iou_thresh=0.8, min_area=50)
        >>> whole.plot().size
        (128, 85)
        >>> sorted(best.to_sa1b()[0])[:4]
        ['area', 'bbox', 'crop_box', 'id']
    """

    rles: Sequence[Rle]
    boxes: Tensor
    scores: Tensor
    stability: Tensor
    levels: Tensor
    prompts: Prompts
    crops: Tensor
    size: Size = None  # type: ignore[assignment]
    image: Pixels | Callable[[], Pixels] | None = field(default=None, compare=False)
    name: str = ""
    categories: list[str] = None  # type: ignore[assignment]
    shared: ClassVar[frozenset[str]] = frozenset({"size", "image", "name"})

    def __post_init__(self) -> None:
        if self.categories is None:
            object.__setattr__(self, "categories", [""] * len(self.rles))
        self._check_lengths()
        if self.size is None:
            height, width = self.rles[0]["size"] if self.rles else (0, 0)
            object.__setattr__(self, "size", (height, width))

    @classmethod
    def empty(cls, size: Size = (0, 0)) -> Self:
        """Return an object without masks, of an image of (H, W) px."""
        none = torch.zeros(0)
        boxes = torch.zeros(0, 4)
        prompts = Prompts.clicks(torch.zeros(0, 2))
        return cls([], boxes, none, none, none.long(), prompts, boxes.long(), size)

    @classmethod
    def from_sa1b(
        cls,
        annotations: Sequence[Annotation],
        size: Size,
        image: Pixels | Callable[[], Pixels] | None = None,
        name: str = "",
    ) -> Self:
        """Return the masks of SA-1B records, as `to_sa1b` and `read_labels` give them.

        Scores that a record does not have are 1.

        Args:
            annotations: Records with `segmentation` as COCO run-length encoding.
            size: (H, W) of the image, px.
            image: uint8 (H, W, 3) RGB, or a function that reads it.
            name: The image's name.
        """
        if not annotations:
            return replace(cls.empty(size), image=image, name=name)
        rles = [one["segmentation"] for one in annotations]
        boxes = rle.boxes(rles) - [0, 0, 1, 1]  # SA-1B's are inclusive
        whole = [0, 0, size[1], size[0]]
        return cls(
            rles,
            _xyxy([one.get("bbox", box) for one, box in zip(annotations, boxes, strict=True)]),
            torch.tensor([float(one.get("predicted_iou", 1)) for one in annotations]),
            torch.tensor([float(one.get("stability_score", 1)) for one in annotations]),
            torch.zeros(len(annotations), dtype=torch.long),
            Prompts.cat([_prompt(one) for one in annotations]),
            _xyxy([one.get("crop_box", whole) for one in annotations]).long(),
            size,
            image,
            name,
            [str(one.get("category") or "") for one in annotations],
        )

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: Index | Sequence[int] | NDArray[Any]) -> Self: ...
    def __getitem__(self, index: int | Index | Sequence[int] | NDArray[Any]) -> Segment | Self:
        """Return one mask, or the rows that a slice, a boolean array or row numbers select."""
        if isinstance(index, int | np.integer):
            row = range(len(self))[int(index)]  # IndexError, and negative numbers, as of a list
            return Segment(super().__getitem__(slice(row, row + 1)))
        if isinstance(index, slice | Tensor):
            return super().__getitem__(index)
        rows = torch.as_tensor(np.asarray(index))
        return super().__getitem__(rows if len(rows) else rows.long())

    def __iter__(self) -> Iterator[Segment]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.size
        of = f"{self.name}, " if self.name else ""
        return f"{type(self).__name__}({len(self)} masks, {of}{width} x {height} px)"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the image with its masks, at most 640 px large."""
        image = self._pixels()
        if image is None or not image.size:
            return None
        drawn = overlay(scaled_down(image, _SHOWN), self.to_sa1b())
        return conversions.html_picture(drawn, repr(self))

    def _pixels(self) -> Pixels | None:
        return self.image() if callable(self.image) else self.image

    @property
    def areas(self) -> Tensor:
        """Areas, int64 (N,) px."""
        return rle.areas(self.rles)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Masks, bool (N, H, W): N * H * W bytes, made at each call."""
        return rle.decode(self.rles, self.size)

    def level(self, level: Level) -> Self:
        """Return the masks of one level: whole objects, their parts, or the parts' subparts.

        See everything/core/mask_hierarchy.py.

        Raises:
            ConfigError: There is no such level.
        """
        check_level(level)
        if level == "all":
            return self
        levels = levels_of(self.rles, self.scores.tolist())
        return self[torch.tensor([one == level for one in levels], dtype=torch.bool)]

    def filter(
        self,
        *,
        pred_iou_thresh: float = 0.0,
        stability_score_thresh: float = 0.0,
        min_area: int = 0,
        max_area: int | None = None,
    ) -> Self:
        """Return the masks that pass thresholds.

        Args:
            pred_iou_thresh: Keep masks with a predicted IoU above this; 0 keeps all.
            stability_score_thresh: Keep masks with a stability score of at least this.
            min_area: Keep masks of at least so many px.
            max_area: Keep masks of at most so many px.
        """
        areas = self.areas
        kept = (self.stability >= stability_score_thresh) & (areas >= min_area)
        if pred_iou_thresh > 0:
            kept &= self.scores > pred_iou_thresh
        if max_area is not None:
            kept &= areas <= max_area
        return self[kept]

    def label_map(self, full: bool = False) -> NDArray[np.uint16]:
        """Return a label map without overlaps, uint16 (H, W).

        See everything/core/label_map.py.

        Args:
            full: Assign pixels without a mask to the nearest mask.

        Raises:
            ValueError: There are more than 65,535 masks.
        """
        if len(self) > np.iinfo(np.uint16).max:
            raise ValueError(f"a 16-bit label map holds at most 65535 masks, not {len(self)}")
        return label_map(self.rles, self.size, full).astype(np.uint16)

    def plot(self, image: Pixels | None = None, fill: float = 0.35) -> Image:
        """Return the image with its masks drawn over it, smaller masks on top.

        Args:
            image: uint8 (H, W, 3) RGB; the image that was segmented by default.
            fill: Opacity inside the contours, 0 to 1.

        Raises:
            EverythingError: There is no image, or it cannot be read.
        """
        from PIL import Image as Picture

        pixels = self._pixels() if image is None else image
        if pixels is None:
            raise EverythingError("these segments have no image: give one, plot(image)")
        return Picture.fromarray(overlay(pixels, self.to_sa1b(), fill))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture of `plot`, or the annotations as SA-1B's JSON, by the path's suffix.

        Raises:
            EverythingError: The suffix is none of .json, .png, .jpg, .webp, or there is no image.
        """
        file = Path(path)
        suffix = file.suffix.lower()
        if suffix in _PICTURES:
            self.plot().save(file)
        elif suffix == ".json":
            height, width = self.size
            about = {"file_name": self.name or file.stem, "height": height, "width": width}
            file.write_text(json.dumps({"image": about, "annotations": self.to_sa1b()}), "utf-8")
        else:
            known = ", ".join((".json", *_PICTURES))
            raise EverythingError(f"{file}: unknown suffix: use one of {known}")

    def to_sa1b(self, parents: bool = False) -> list[Annotation]:
        """Return one record per mask with SA-1B's fields.

        A mask from a box prompt also has that box, `prompt_box` xyxy, and one with a class has its
        name, `category`.

        Args:
            parents: Add `parent_id`, the ID of the mask of which it is a part, or None.
        """
        records = [self._record(row, area) for row, area in enumerate(self.areas.tolist())]
        if parents:
            for record, parent in zip(records, parents_of(self.rles), strict=True):
                record["parent_id"] = parent
        return records

    def to_coco(
        self, image_id: int = 1, first_id: int = 1, classes: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Return one COCO annotation per mask, with its predicted IoU as `score`.

        Args:
            image_id: The image's ID in the COCO file.
            first_id: The ID of the first annotation.
            classes: Names of the categories 1, 2, …; others follow as they appear. Masks without
                any class are of category 1.
        """
        ids = [number + 1 for number in conversions.class_ids(self.categories, classes)]
        return conversions.coco_annotations(self.to_sa1b(), image_id, first_id, ids)

    def to_polygons(self) -> list[list[Part]]:
        """Return each mask's parts: outlines (K, 2) xy px, with holes, along the pixels' edges."""
        return [_parts(one) for one in self.rles]

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row per mask and SA-1B's fields as columns (needs pandas)."""
        return conversions.data_frame(self.to_sa1b())

    def to_supervision(self, classes: Sequence[str] = ()) -> supervision.Detections:
        """Return supervision's detections (needs supervision).

        Args:
            classes: Names of the classes 0, 1, …; others follow as they appear. Masks without a
                class are of "object".
        """
        names = [name or "object" for name in self.categories]
        return conversions.supervision_detections(
            self.boxes.numpy(),
            self.masks,
            self.scores.numpy(),
            names,
            conversions.class_ids(names, classes),
        )

    def to_fiftyone(self, label: str = "object") -> fiftyone.Detections:
        """Return FiftyOne's detections with instance masks (needs fiftyone).

        Args:
            label: Of masks without a class.
        """
        labels = [name or label for name in self.categories]
        return conversions.fiftyone_detections(self.rles, self.scores.tolist(), self.size, labels)

    def _record(self, row: int, area: int) -> Annotation:
        box = self.prompts.box(row)
        record = {
            "id": row,
            "segmentation": self.rles[row],
            "bbox": _xywh(self.boxes[row].tolist()),
            "area": area,
            "predicted_iou": self.scores[row].item(),
            "stability_score": self.stability[row].item(),
            "crop_box": _xywh(self.crops[row].tolist()),
            "point_coords": self._points(row, box),
        }
        if box:
            record["prompt_box"] = box
        if name := self.categories[row]:
            record["category"] = name
        return record

    def _points(self, row: int, box: list[float] | None) -> list[list[float]]:
        if box:
            centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
            return [centre]
        inside = self.prompts.labels[row] == INSIDE
        points: list[list[float]] = self.prompts.points[row][inside].tolist()
        return points


@dataclass(frozen=True, repr=False)
class Segment:
    """One mask of an image: a row of `Segments`."""

    row: Segments

    def __repr__(self) -> str:
        box = ", ".join(f"{side:g}" for side in self.box)
        return f"Segment({self.area} px, score {self.score:.2f}, box {box})"

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, bool (H, W) of the image."""
        mask: NDArray[np.bool_] = self.row.masks[0]
        return mask

    @property
    def rle(self) -> Rle:
        """COCO run-length encoding over the image."""
        return self.row.rles[0]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box xyxy, inclusive image px."""
        x0, y0, x1, y1 = self.row.boxes[0].tolist()
        return x0, y0, x1, y1

    @property
    def area(self) -> int:
        """Area in px."""
        return int(self.row.areas[0])

    @property
    def score(self) -> float:
        """Predicted IoU."""
        return float(self.row.scores[0])

    @property
    def stability(self) -> float:
        """Stability score."""
        return float(self.row.stability[0])

    @property
    def category(self) -> str:
        """The name of its class, or ""."""
        return self.row.categories[0]

    def to_polygons(self) -> list[Part]:
        """Return the parts: outlines (K, 2) xy px, with holes, along the pixels' edges."""
        return self.row.to_polygons()[0]

    def to_sa1b(self) -> Annotation:
        """Return the record with SA-1B's fields."""
        return self.row.to_sa1b()[0]


def _parts(code: Rle) -> list[Part]:
    mask, corner = rle.cut(code)
    by = np.array(corner, np.int32)
    return [Part(part.shell + by, [hole + by for hole in part.holes]) for part in parts_of(mask)]


def _prompt(annotation: Annotation) -> Prompts:
    if box := annotation.get("prompt_box"):
        return Prompts.boxes(torch.tensor([box]))
    points = torch.tensor(annotation.get("point_coords") or [[0, 0]], dtype=torch.float64)
    return Prompts(points[None], torch.full((1, len(points)), INSIDE))


def _xywh(xyxy: list[float]) -> list[float]:
    x0, y0, x1, y1 = xyxy
    return [x0, y0, x1 - x0, y1 - y0]


def _xyxy(xywh: Sequence[Any]) -> Tensor:
    boxes = torch.tensor([[float(side) for side in box] for box in xywh])
    boxes[:, 2:] += boxes[:, :2]
    return boxes
