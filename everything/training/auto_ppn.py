"""Training of AutoPPN's head: which places of an image are the middle of an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from everything.core.geometry import Frame, Size, whole
from everything.core.protocols import Model
from everything.detectors.prompt_head import FINER, UNIT, PromptHead, cells
from everything.io.datasets.label_maps import LabelledImage
from everything.training.data import read_training_images
from everything.training.loop import Budget, Loop, run
from everything.training.optimizers import Optimisers
from everything.training.output_folder import check_output, write_card

OUTSIDE = ("enter", "leave")  # not hidden matrices: AdamW's
RATE = 0.5  # of the boundary network's: a small head on features that stand still
MEASURED = 8  # images that the features' mean and deviation are taken from
REMEMBERED = 1000  # crops whose examples are kept, about a megabyte each
CARD = """# AutoPPN head for {variant}

Proposes point and box prompts from the feature maps of `{variant}` (weights {digest}).

- Data: {photos} photos of {folders}, each plain and mirrored. The licence of the photos and of
  their labels holds for this head too.
- Training: {steps} steps of one photo, {minutes:.0f} minutes, seed {seed}, width {width}.
- Use: `--variant {variant} --sampler auto-ppn --set sampler.head=PATH`.
"""


@dataclass(frozen=True)
class Example:
    """What the head should predict for one crop.

    features: float16 (1, C, h, w). heat: float32 (H, W) on the head's cells, how near the middle
    of an object, in [0, 1]; NaN where nobody knows. sides: float16 (K, 4, H, W), see HeadOutput, of
    each annotator's object. weight: float16 (K, H, W), how much they count.
    """

    features: Tensor
    heat: Tensor
    sides: Tensor
    weight: Tensor


class AutoPpnTraining(Loop[PromptHead]):
    """Learns on the feature maps of a model that does not change, plain and mirrored.

    Each image is encoded once plain and once mirrored, so that all later steps take milliseconds.
    """

    def __init__(
        self,
        model: Model,
        truths: Sequence[LabelledImage],
        budget: Budget,
        seed: int,
        width: int = 64,
    ) -> None:
        self.model = model
        self.examples: dict[tuple[str, bool], Example] = {}
        torch.manual_seed(seed)
        some = [self.example(truth, False).features.float() for truth in truths[:MEASURED]]
        values = torch.cat([maps[0].flatten(1) for maps in some], 1) if some else torch.zeros(1, 2)
        head = PromptHead(len(values), width)
        head.mean.copy_(values.mean(1))
        head.deviation.copy_(values.std(1).clamp(min=1e-6))
        super().__init__(head, {"head": Optimisers(head, OUTSIDE, RATE)}, truths, budget, seed)

    def losses(self, truth: LabelledImage) -> dict[str, Tensor]:
        """Return the losses of confidences and of boxes for one crop of an image."""
        example = self.example(truth, bool(torch.rand((), generator=self.random) < 0.5))
        answer = self.net(example.features)
        known = ~example.heat.isnan()
        points = F.binary_cross_entropy_with_logits(
            answer.confidence[0][known], example.heat[known]
        )
        apart = F.smooth_l1_loss(
            answer.sides.expand_as(example.sides), example.sides.float(), reduction="none", beta=0.2
        )
        weight = example.weight.float()
        boxes = (apart.mean(1) * weight).sum() / weight.sum().clamp(min=1)
        return {"points": points, "boxes": boxes}

    def example(self, truth: LabelledImage, mirrored: bool) -> Example:
        """Return the example of an image, from memory if it is there."""
        key = (truth.name, mirrored)
        if key not in self.examples:
            example = make_example(self.model, truth, mirrored)
            if len(self.examples) >= REMEMBERED:
                return example
            self.examples[key] = example
        return self.examples[key]


def train_auto_ppn(
    truths: Sequence[Path],
    out: Path,
    budget: Budget,
    *,
    variant: str,
    checkpoint: Path | None = None,
    seed: int = 0,
    width: int = 64,
    split: str | None = "train",
    resume: bool = False,
    on_message: Callable[[str], None] = print,
    images: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Train a head for a variant on folders of truth and return out/weights.safetensors; beside
    it, README.md says how it came about.

    The folders may be results of this program: a head then learns to ask what grid-32 found.
    checkpoint: of the variant. split: of data packs. resume: continue from what out holds. Raises
    EverythingError for an unknown variant or weights that cannot be had.
    """
    # Only here: training knows models by their protocol.
    from everything.recipes.build import build
    from everything.recipes.resolve import resolve

    check_output(out, ("README.md",), resume=resume, overwrite=overwrite)
    recipe = resolve(variant, checkpoint)
    photos = [truth for path in truths for truth in read_training_images(path, split, images)]
    training = AutoPpnTraining(build(recipe).model, photos, budget, seed, width)
    if resume:
        training.resume(out)
    on_message(f"{len(photos)} images; the first steps are slow, since they encode")
    run(training, out, on_message)
    card = CARD.format(
        variant=variant,
        digest=recipe.weights[:12],
        photos=len(photos),
        folders=", ".join(path.name for path in truths),
        steps=training.steps,
        minutes=training.seconds / 60,
        seed=seed,
        width=width,
    )
    write_card(out, "README.md", card)
    return out / "weights.safetensors"


@torch.no_grad()
def make_example(model: Model, truth: LabelledImage, mirrored: bool) -> Example:
    """Return what a model sees of an image, or of its mirror image, and what is to be learnt."""
    photo, labels = truth.pixels, truth.labels
    if mirrored:
        photo, labels = np.ascontiguousarray(photo[:, ::-1]), labels[:, :, ::-1]
    view = whole(photo)
    features = model.features(model.encode(view))
    grid = (features.shape[2] * FINER, features.shape[3] * FINER)
    frame = model.frame(view.size)
    taught = [_one_annotator(one, frame, grid, truth.complete) for one in labels]
    heats, sides, weights = (torch.stack(part) for part in zip(*taught, strict=True))
    return Example(
        features.half(), torch.nanmean(heats, 0), sides.half(), weights.nan_to_num().half()
    )


def _one_annotator(
    labels: NDArray[np.int16], frame: Frame, grid: Size, complete: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Heat (H, W), sides (4, H, W) and weight (H, W) on the cells of a grid over the canvas."""
    places = cells(frame.canvas, grid)
    x, y = frame.from_canvas(places).unbind(-1)
    height, width = labels.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = x.long().clamp(0, width - 1), y.long().clamp(0, height - 1)
    label = torch.from_numpy(labels.astype(np.int64))[row, column]
    centrality = torch.from_numpy(region_centres(labels))
    heat = torch.maximum(_peaks(centrality, frame, grid), centrality[row, column])
    boxes = torch.from_numpy(_boxes(labels))[label]
    corners = frame.to_canvas(boxes.reshape(*boxes.shape[:-1], 2, 2))
    reach = torch.cat([places - corners[..., 0, :], corners[..., 1, :] - places], -1)
    sides = torch.log(reach.clamp(min=1) * UNIT / max(frame.canvas)).permute(2, 0, 1)
    marked = inside & (label > 0)
    unknown = inside & (label == 0) & (not complete)
    heat = torch.where(inside, heat, 0.0).float()
    weight = torch.where(marked, centrality[row, column], 0.0).float()
    return heat.masked_fill(unknown, torch.nan), sides.float(), weight


def region_centres(labels: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return how near the middle of its region each pixel is, float64 (H, W): the squared ratio
    of its distance to the region's contour to the largest in that region; 0 where unmarked."""
    padded = np.pad(labels, 1, constant_values=-1)
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    contour = np.any([middle != other for other in neighbours], 0)
    # Pixels of the contour itself are half a pixel inside.
    distance = ndimage.distance_transform_edt(~contour) + 0.5
    if not contour.any():
        return np.zeros(labels.shape)
    numbers = np.arange(int(labels.max()) + 1)
    largest = np.atleast_1d(ndimage.maximum(distance, labels, numbers))
    share: NDArray[np.float64] = distance / np.maximum(largest, 0.5)[labels]
    return np.where(labels > 0, share**2, 0.0)


def _peaks(values: Tensor, frame: Frame, grid: Size) -> Tensor:
    """The largest value (H, W) of the pixels in every cell: small objects have few of them."""
    height, width = values.shape
    x = (torch.arange(width, dtype=torch.float64) + 0.5)[None].expand(height, width)
    y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None].expand(height, width)
    on_canvas = frame.to_canvas(torch.stack([x, y], -1))
    column = (on_canvas[..., 0] * grid[1] / frame.canvas[1]).long().clamp(0, grid[1] - 1)
    row = (on_canvas[..., 1] * grid[0] / frame.canvas[0]).long().clamp(0, grid[0] - 1)
    found = values.new_zeros(grid[0] * grid[1])
    found.scatter_reduce_(0, (row * grid[1] + column).flatten(), values.flatten(), "amax")
    return found.view(grid)


def _boxes(labels: NDArray[np.int16]) -> NDArray[np.float64]:
    """Boxes float64 (L + 1, 4) xyxy px of the labels 0 to L; x1 and y1 exclusive."""
    boxes = np.zeros((int(labels.max()) + 1, 4))
    for number, slices in enumerate(ndimage.find_objects(labels), 1):
        if slices is not None:
            down, across = slices
            boxes[number] = across.start, down.start, across.stop, down.stop
    return boxes
