"""AutoPPN's head: proposes points and boxes from a variant's own feature maps.

Lite-SAM (Fu et al., 2024) proposes prompts from the network itself, with a confidence for points
and a regression for boxes, but gives no details. This is an original design of that idea.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from everything.core.geometry import Frame, Size
from everything.errors import WeightsError
from everything.pipeline.nms import box_nms

FINER = 2  # cells of the head's output per cell of the features, along each axis
UNIT = 8  # distances to box sides are in units of the canvas's longest side / UNIT
DILATIONS = (1, 2, 4)
CPU = torch.device("cpu")
CANDIDATES = 1000  # boxes are proposed by this many most confident cells


class HeadOutput(NamedTuple):
    """The output of the head for each cell.

    Attributes:
        confidence: float32 (B, h, w), logit of how near the cell is to the centre of an object.
        sides: float32 (B, 4, h, w), logarithm of the distances to the left, upper, right and lower
            side of that object's box, in units of the canvas's longest side / UNIT.
    """

    confidence: Tensor
    sides: Tensor


class Proposals(NamedTuple):
    """Prompts for a view, most confident first.

    Attributes:
        points: float64 (P, 2) xy, view px.
        boxes: float64 (N, 4) xyxy, view px.
    """

    points: Tensor
    boxes: Tensor


class PromptHead(nn.Module):
    """Three dilated convolutions over features that are normalised to mean 0 and deviation 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.enter = nn.Conv2d(channels, width, 1)
        self.blocks = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation in DILATIONS
        )
        self.leave = nn.Conv2d(width, 5, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=0.01)

    def forward(self, features: Tensor) -> HeadOutput:
        """Return the output for feature maps (B, C, h, w), on a grid FINER times as fine."""
        x = (features.float() - self.mean[:, None, None]) / self.deviation[:, None, None]
        x = F.relu(self.enter(x))
        for block in self.blocks:
            x = x + F.relu(block(x))
        # Enlarged before the last convolution, which smooths: a checkerboard has false peaks.
        x = F.interpolate(x, scale_factor=FINER, mode="bilinear", align_corners=False)
        x = self.leave(x)
        return HeadOutput(x[:, 0], x[:, 1:])


def cells(canvas: Size, grid: Size) -> Tensor:
    """Return the centres of the cells of a grid (h, w) over a canvas, float64 (h, w, 2) xy px."""
    y = (torch.arange(grid[0], dtype=torch.float64) + 0.5) * canvas[0] / grid[0]
    x = (torch.arange(grid[1], dtype=torch.float64) + 0.5) * canvas[1] / grid[1]
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def propose(
    output: HeadOutput, frame: Frame, *, conf: float, iou: float, max_points: int, max_boxes: int
) -> Proposals:
    """Return the prompts that the head's output proposes for a view.

    Points are local maxima of the confidence; boxes come from the most confident cells.

    Args:
        output: The head's output for one view (B = 1), on the CPU.
        frame: The view's position on the canvas.
        conf: Confidence in [0, 1] that a proposal must exceed.
        iou: Boxes whose IoU with a better one exceeds this are duplicates.
        max_points: Maximum number of points.
        max_boxes: Maximum number of boxes.
    """
    heat = torch.sigmoid(output.confidence[0]).double()
    places = cells(frame.canvas, (heat.shape[0], heat.shape[1]))
    x0, y0, x1, y1 = frame.content
    x, y = places.unbind(-1)
    heat = torch.where((x > x0) & (x < x1) & (y > y0) & (y < y1), heat, 0.0)
    peaks = (heat == F.max_pool2d(heat[None], 3, 1, 1)[0]) & (heat > conf)
    points = places[_most(heat, peaks, max_points)]
    sure = _most(heat, heat > conf, CANDIDATES)
    reach = torch.exp(output.sides[0].double()) * max(frame.canvas) / UNIT
    left, up, right, down = reach[:, *sure]
    middle = places[sure]
    boxes = torch.stack(
        [middle[:, 0] - left, middle[:, 1] - up, middle[:, 0] + right, middle[:, 1] + down], 1
    )
    boxes = _on_view(boxes, frame)
    kept = box_nms(boxes, heat[sure], iou)[:max_boxes]
    return Proposals(frame.from_canvas(points), boxes[kept])


def _most(heat: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the largest values of `heat` (h, w) where `among` is true."""
    rows, columns = among.nonzero().unbind(1)
    order = heat[rows, columns].argsort(descending=True, stable=True)[:count]
    return rows[order], columns[order]


def _on_view(boxes: Tensor, frame: Frame) -> Tensor:
    height, width = frame.view
    corners = frame.from_canvas(boxes.reshape(-1, 2, 2))
    return corners.clamp(min=0).minimum(corners.new_tensor([width, height])).reshape(-1, 4)


@cache
def load(path: Path, device: torch.device = CPU) -> PromptHead:
    """Return the trained head in a file, loaded once per device.

    Raises:
        WeightsError: The file is not a head, or cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        width, channels = state["enter.weight"].shape[:2]
        head = PromptHead(channels, width)
        head.load_state_dict(state)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable head ({error})") from error
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not the weights of an AutoPPN head ({reason})") from error
    return head.to(device).eval().requires_grad_(False)
