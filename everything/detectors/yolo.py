"""YOLOv8-seg, as FastSAM and MobileSAMv2 use it, on ultralytics' network class (AGPL-3.0)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou

from everything.core.geometry import Frame, Size
from everything.core.prompts import Prompts
from everything.detectors.checkpoints import KNOWN
from everything.detectors.safe_unpickle import read_network
from everything.errors import WeightsError
from everything.masks.masks import Decoded
from everything.pipeline.nms import box_nms
from everything.variants.checkpoints.reader import State

STRIDE = 32  # px; the sides of the letterbox are multiples of it
CELL = 4  # px of the letterbox per cell of a prototype
GREY = 114  # colour of the letterbox's padding
BORDER = 20.0  # px; box sides this close to the letterbox's edge are moved to the edge
FULL = 0.9  # boxes whose IoU with the letterbox exceeds this become the letterbox (FastSAM)
OUTSIDE = -100.0  # logit outside of a mask's box
SCALES = {16: "n", 32: "s", 48: "m", 64: "l", 80: "x"}  # by the width of the first convolution


@dataclass(frozen=True)
class YoloDetections:
    """N objects in one view, most confident first.

    Attributes:
        boxes: float32 (N, 4) xyxy, view px, clipped to the view.
        scores: float32 (N,) confidence.
        coefficients: float32 (N, C): a mask's logits are the prototypes' sum with these weights.
        prototypes: float32 (C, hl, wl) over the frame's canvas.
        frame: The view's position on the letterbox.
    """

    boxes: Tensor
    scores: Tensor
    coefficients: Tensor
    prototypes: Tensor
    frame: Frame

    def __len__(self) -> int:
        return len(self.scores)

    def logits(self, rows: slice) -> Tensor:
        """Return logits float32 (K, h, w) over the view for a slice of rows, OUTSIDE beyond each
        object's box (FastSAM's retina masks)."""
        low = torch.einsum("nc,chw->nhw", self.coefficients[rows], self.prototypes)
        logits = self.frame.to_view(low)
        x0, y0, x1, y1 = self.boxes[rows, :, None].unbind(1)
        x, y = torch.arange(logits.shape[2]), torch.arange(logits.shape[1])
        across, down = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
        return logits.masked_fill(~(across[:, None, :] & down[:, :, None]), OUTSIDE)

    def decoded(self, rows: slice) -> Decoded:
        """Return the masks of the objects in a slice of rows; their canvas is the view."""
        size = self.frame.view
        canvas = Frame(size, size, (0, 0, size[1], size[0]))
        scores = self.scores[rows]
        levels = torch.zeros(len(scores), dtype=torch.int64)
        prompts = Prompts.boxes(self.boxes[rows])
        return Decoded(self.logits(rows), scores, levels, prompts, canvas)


@dataclass(frozen=True)
class Yolo:
    """A YOLOv8-seg network as a class-agnostic detector."""

    network: nn.Module

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        *,
        imgsz: int,
        conf: float,
        iou: float,
        max_det: int,
    ) -> YoloDetections:
        """Return the objects in a view.

        Args:
            pixels: The view, uint8 (h, w, 3) RGB.
            imgsz: Longest side of the letterbox, px.
            conf: Confidence that an object must exceed.
            iou: Objects whose box's IoU with a better one's exceeds this are dropped.
            max_det: Maximum number of objects.
        """
        frame = letterbox((pixels.shape[0], pixels.shape[1]), imgsz)
        (rows, prototypes), _ = self.network(_on_canvas(pixels, frame))
        rows, prototypes = rows[0].T, prototypes[0]
        boxes, classes, coefficients = rows.split(
            [4, rows.shape[1] - 4 - len(prototypes), len(prototypes)], 1
        )
        scores = classes.amax(1)
        sure = (scores > conf).nonzero().flatten()
        boxes = box_convert(boxes[sure], "cxcywh", "xyxy")
        kept = box_nms(boxes, scores[sure], iou)[:max_det]
        rows = sure[kept]
        boxes = _on_view(_snapped(boxes[kept], frame.canvas), frame)
        return YoloDetections(boxes, scores[rows], coefficients[rows], prototypes, frame)


def letterbox(view: Size, imgsz: int) -> Frame:
    """Return ultralytics' frame of a view of (h, w) px.

    The longest side is scaled to `imgsz` px; both sides are padded evenly to multiples of 32.

    Where the padding is a whole number of the prototypes' cells, prototypes are cropped at their
    own resolution; otherwise they are enlarged first, as ultralytics does since 8.4. (FastSAM
    cropped to the nearest cell, up to 3 px off.)
    """
    scale = imgsz / max(view)
    # The short side of a 1 x 60,000 strip would round to 0.
    height, width = (max(1, round(side * scale)) for side in view)
    (top, bottom), (left, right) = (_margins(side, imgsz) for side in (height, width))
    canvas = (height + top + bottom, width + left + right)
    whole_cells = not any(side % CELL for side in (top, bottom, left, right))
    content = (left, top, left + width, top + height)
    return Frame(view, canvas, content, "one-step" if whole_cells else "two-step")


def _margins(side: int, imgsz: int) -> tuple[int, int]:
    half = (imgsz - side) % STRIDE / 2
    return round(half - 0.1), round(half + 0.1)


def _on_canvas(pixels: NDArray[np.uint8], frame: Frame) -> Tensor:
    """The network's input, float32 (1, 3, hc, wc) RGB in [0, 1]: the view in its letterbox."""
    import cv2

    x0, y0, x1, y1 = frame.content
    resized = cv2.resize(
        np.ascontiguousarray(pixels), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR
    )
    rgb = torch.from_numpy(resized).permute(2, 0, 1)[None].float()
    height, width = frame.canvas
    return F.pad(rgb, (x0, width - x1, y0, height - y1), value=GREY) / 255


def _snapped(boxes: Tensor, canvas: Size) -> Tensor:
    """Boxes (N, 4) xyxy, canvas px, with sides near the canvas's edge moved to it; boxes that are
    nearly the canvas become the canvas (FastSAM)."""
    height, width = canvas
    limit = boxes.new_tensor([width, height])
    low, high = boxes[:, :2], boxes[:, 2:]
    low = torch.where(low < BORDER, 0.0, low)
    high = torch.where(high > limit - BORDER, limit, high)
    boxes = torch.cat([low, high], 1)
    whole = boxes.new_tensor([[0, 0, width, height]])
    return torch.where(box_iou(boxes, whole) > FULL, whole, boxes)


def _on_view(boxes: Tensor, frame: Frame) -> Tensor:
    height, width = frame.view
    corners = frame.from_canvas(boxes.reshape(-1, 2, 2))
    return corners.clamp(min=0).minimum(corners.new_tensor([width, height])).reshape(-1, 4)


@cache
def load(checkpoint: str) -> Yolo:
    """Return the network of a checkpoint, loaded once.

    The checkpoint is ultralytics' pickle of a whole YOLOv8-seg network; its size, number of classes
    and regression bins follow from the shapes of its tensors.

    Args:
        checkpoint: A path, or a name in KNOWN, which is downloaded once.

    Raises:
        WeightsError: The file cannot be read or is not a YOLOv8-seg network.
    """
    known = KNOWN.get(checkpoint)
    path = known.path() if known else Path(checkpoint)
    state = read_network(path)
    network = _build(state, path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        what = str(error).splitlines()[1].strip()
        raise WeightsError(f"{path}: not weights of a YOLOv8-seg network ({what})") from error
    return Yolo(network.eval().requires_grad_(False))


def _build(state: State, path: Path) -> nn.Module:
    """A network without weights, of the size that the shapes in a state tell."""
    try:
        scale = SCALES[state["model.0.conv.weight"].shape[0]]
        bins = state["model.22.dfl.conv.weight"].shape[1]
        classes = state["model.22.cv3.0.2.weight"].shape[0]
    except KeyError as error:
        raise WeightsError(f"{path}: not a YOLOv8-seg network ({error} is missing)") from error
    with quietly():
        tasks: Any = import_module("ultralytics.nn.tasks")
        layout = tasks.yaml_model_load(f"yolov8{scale}-seg.yaml") | {"reg_max": bins}
        network: nn.Module = tasks.SegmentationModel(layout, nc=classes, verbose=False)
    return network


@contextmanager
def quietly() -> Iterator[None]:
    """Import ultralytics without side effects.

    It writes no files into the user's folders, makes no network requests, installs no packages and
    does not change this process's environment.
    """
    if "ultralytics" in sys.modules:
        yield
        return
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            YOLO_CONFIG_DIR=folder,
            YOLO_OFFLINE="true",
            YOLO_AUTOINSTALL="false",
            YOLO_VERBOSE="false",
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
