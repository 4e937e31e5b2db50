"""Training of `nano`: prompts drawn from annotated regions, masks compared with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from everything.bundled.nano import GRID, Nano
from everything.bundled.pretrained_boundary_net import PretrainedBoundaryNet
from everything.bundled.ucm import fast_bfloat16
from everything.core.prompts import BOTTOM_RIGHT, INSIDE, TOP_LEFT
from everything.errors import WeightsError
from everything.io.datasets.label_maps import LabelledImage
from everything.training.augment import Crop, RandomCrops
from everything.training.data import complete_images
from everything.training.loop import Budget, Loop, run
from everything.training.optimizers import Optimisers
from everything.training.output_folder import check_output, write_card, write_weights
from everything.training.pretrained_encoder import folded_state, unfold
from everything.training.two_way_decoder import assemble, decode_prompts
from everything.variants.checkpoints.reader import read_state

# Matrices that are not hidden ones, or that begin as a search for places: AdamW's, not Muon's.
TRUNK_OUTSIDE = ("stem", "prior", "place")
OUTSIDE = ("embed", "token", "kinds", "upscaling", "downscaling", "skip", "narrow")
TRUNK_RATE = 0.3  # the trunk knows its boundaries already
ENCODER_RATE = 0.3  # of the trunk's: its encoder knows ImageNet
ANYWHERE, IN_REGIONS, BOXES = 8, 10, 6  # prompts for each crop
DEEPEST_OF = 6  # candidates of which a click takes the one farthest inside
JITTER = 0.05  # of a box's sides
SMALLEST = 24  # cells at stride 2; smaller regions are not asked for
ENTROPY_WEIGHT, PRECISION_WEIGHT, SINGLE_WEIGHT = 2.0, 0.3, 0.4
IOU_WEIGHT = 5.0
MOST_MAPS = 6  # annotators compared with


class Task(NamedTuple):
    """Prompts about one crop and the regions that are right answers.

    points float32 (P, 2, 2) px, labels int64 (P, 2): a click and padding, or a box's corners.
    targets float32 (P, K, h / 4, w / 4): how much of a cell each right region covers. weights
    float32 (P, K): 0 where there is none, else they add up to 1. known float32 (h / 4, w / 4).
    """

    clicks: Tensor
    boxes: Tensor
    targets: Tensor
    weights: Tensor
    known: Tensor


class NanoTraining(Loop[Nano]):
    """The training of nano.

    init: weights of the boundary network that its trunk starts from, `ucm`'s or `ucm-lite0`'s,
    whose backbone it gets; without them it is a `BoundaryNet` that starts from nothing, which
    costs most of what a short training reaches. sides: of crops, px, and how often each is drawn.
    """

    decay = 0.998  # steps are few

    def __init__(
        self,
        truths: Sequence[LabelledImage],
        budget: Budget,
        seed: int,
        init: Path | None = None,
        sides: tuple[tuple[int, int], ...] = ((512, 352),) * 6 + ((512, 512),),
    ) -> None:
        torch.manual_seed(seed)
        net = Nano() if init is None else started_from(init)
        net.image_encoder.to(memory_format=torch.channels_last)
        optimisers = _optimisers(net, TRUNK_RATE if init else 1.0)
        super().__init__(net, optimisers, truths, budget, seed)
        self.crops = [RandomCrops(sides=pair, scale=(0.8, 2.0)) for pair in sides]

    def losses(self, truth: LabelledImage) -> dict[str, Tensor]:
        """Return the losses of masks, of the single mask and of the predicted IoU."""
        chosen = int(torch.randint(len(self.crops), (), generator=self.random))
        crop = self.crops[chosen](truth, self.random)
        with torch.autocast("cpu", torch.bfloat16, fast_bfloat16(torch.device("cpu"))):
            return prompt_losses(
                self.net.mask_decoder, crop, self.random, partial(predict, self.net)
            )


def prompt_losses(
    decoder: nn.Module,
    crop: Crop,
    random: torch.Generator,
    predicted: Callable[[Tensor, Task], tuple[Tensor, Tensor]],
) -> dict[str, Tensor]:
    """Return the losses of what is predicted for random prompts about a crop.

    predicted: from the crop's rgb and a task to logits and predicted IoU, as `predict`.
    """
    task = sample_prompts(crop, random)
    if task is None:  # nothing is known in this crop
        zero = sum((p.sum() * 0 for p in decoder.parameters()), torch.zeros(()))
        return {"masks": zero, "single": zero, "iou": zero}
    logits, scores = predicted(crop.rgb, task)
    with torch.autocast("cpu", enabled=False):
        return compare_masks(logits.float(), scores.float(), task)


def train_nano(
    truth: Iterable[Path],
    out: Path,
    budget: Budget,
    *,
    init: Path | None = None,
    seed: int = 0,
    split: str | None = "train",
    resume: bool = False,
    on_message: Callable[[str], None] = print,
    images: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Train nano on folders of truth and return the file of its weights, DIR/nano.safetensors,
    for `--variant nano --checkpoint`; DIR/nano.md says how it came about.

    init: weights of `ucm` or `ucm-lite0` to start from. split: of data packs that have splits.
    resume: continue from what an earlier run left in `out`. Images that are marked only in part
    are left out. Raises ValueError if none remain, and what `read_training_images` raises.
    """
    check_output(out, ("nano.safetensors", "nano.md"), resume=resume, overwrite=overwrite)
    photos = complete_images(truth, split, images, on_message)
    training = NanoTraining(photos, budget, seed, init)
    if resume:
        training.resume(out)
    on_message(f"{len(photos)} images")
    run(training, out, on_message)
    file = write_weights(out, "nano.safetensors", shipped(training.mean))
    write_card(out, "nano.md", _card(training, init, seed))
    return file


def started_from(weights: Path) -> Nano:
    """Return nano whose trunk is a boundary network, ready to be trained further.

    weights: the file of `ucm` or `ucm-lite0`, or a checkpoint of `ucm`'s training. Raises
    WeightsError if they are not in it.
    """
    state = {name.removeprefix("boundary."): v for name, v in read_state(weights).items()}
    net = Nano("lite0" if any(name.startswith("encoder.") for name in state) else "none")
    trunk = net.image_encoder.trunk
    missing = sorted(trunk.state_dict().keys() - state.keys())
    if missing:
        raise WeightsError(f"{weights}: no boundary network ({missing[0]} …): give weights of ucm")
    trunk.load_state_dict({name: state[name].float() for name in trunk.state_dict()})
    if isinstance(trunk, PretrainedBoundaryNet):
        unfold(trunk.encoder)
    return net


def shipped(net: Nano) -> dict[str, Tensor]:
    """Return the weights for the package, float16."""
    return {name: value.half().contiguous() for name, value in folded_state(net).items()}


def _card(training: NanoTraining, init: Path | None, seed: int) -> str:
    return (
        "# nano: a tiny SAM\n\n"
        f"- photos: {len(training.truths)}\n"
        f"- {training.steps} steps of one photo, {training.seconds / 60:.0f} minutes, seed {seed}\n"
        f"- trunk from {init.name if init else 'nothing'}\n"
        "- licence: that of the photos and of their regions, which whoever trained this knows\n"
    )


def sample_prompts(crop: Crop, random: torch.Generator) -> Task | None:
    """Return prompts about a crop: clicks anywhere, clicks in regions (small ones nearly as
    often as large ones, and mostly deep inside) and boxes; None if no region is known."""
    labels = crop.labels[torch.randperm(len(crop.labels), generator=random)[:MOST_MAPS]]
    areas = _areas(labels)
    if not bool((areas > 0).any()):
        return None
    places = _anywhere(labels, random) + [_inside(labels, areas, random) for _ in range(IN_REGIONS)]
    at = torch.tensor(places)
    values = labels[:, at[:, 0], at[:, 1]].T  # (P, K)
    regions = [_region(areas, random) for _ in range(BOXES)]
    boxes = torch.stack([_box(labels[k] == value, random) for k, value in regions])
    in_boxes = values.new_zeros(BOXES, len(labels))
    for row, (k, value) in enumerate(regions):
        in_boxes[row, k] = value
    values = torch.cat([values, in_boxes])
    right = areas.gather(1, values.T).T > 0
    clicks = 2 * (at.flip(1) + torch.rand(at.shape, generator=random))
    keep = right.any(1)
    keep_clicks, keep_boxes = keep[: len(at)], keep[len(at) :]
    values, right = values[keep], right[keep]
    quarters = torch.stack([labels[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]).short()
    return Task(
        clicks[keep_clicks],
        boxes[keep_boxes],
        _coverage(quarters, values, right),
        right / right.sum(1, keepdim=True),
        (quarters > 0).any(1).any(0).float(),
    )


def _areas(labels: Tensor) -> Tensor:
    """Cells of each region, int64 (K, values), 0 for unknown and for too small ones."""
    count = int(labels.max()) + 1
    areas = torch.stack([torch.bincount(one.flatten(), minlength=count) for one in labels])
    areas[:, 0] = 0
    return areas * (areas >= SMALLEST)


def _anywhere(labels: Tensor, random: torch.Generator) -> list[tuple[int, int]]:
    known = (labels > 0).any(0).flatten().nonzero()[:, 0]
    chosen = known[torch.randint(len(known), (ANYWHERE,), generator=random)]
    return [divmod(int(place), labels.shape[2]) for place in chosen]


def _region(areas: Tensor, random: torch.Generator) -> tuple[int, int]:
    """A map and a region of it."""
    has = (areas > 0).any(1).nonzero()[:, 0]
    k = int(has[torch.randint(len(has), (), generator=random)])
    return k, int(torch.multinomial(areas[k].float() ** 0.25, 1, generator=random))


def _inside(labels: Tensor, areas: Tensor, random: torch.Generator) -> tuple[int, int]:
    """A place (row, column) in a region; in three of five cases rather deep inside."""
    k, value = _region(areas, random)
    mask = labels[k] == value
    places = mask.flatten().nonzero()[:, 0]
    some = places[torch.randint(len(places), (DEEPEST_OF,), generator=random)]
    chosen = some[0]
    if float(torch.rand((), generator=random)) < 0.6:
        depth = ndimage.distance_transform_cdt(np.pad(mask.numpy(), 1))[1:-1, 1:-1]
        chosen = some[torch.from_numpy(depth).flatten()[some].argmax()]
    row, column = divmod(int(chosen), labels.shape[2])
    return row, column


def _box(mask: Tensor, random: torch.Generator) -> Tensor:
    """A mask's box xyxy, px of the crop, as somebody would draw it."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    corners = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * 2.0
    sides = (corners[2:] - corners[:2]).repeat(2)
    return corners + JITTER * sides * torch.randn(4, generator=random)


def _coverage(quarters: Tensor, values: Tensor, right: Tensor) -> Tensor:
    """How much of each cell the regions `values` (P, K) of the maps (4, K, h, w) cover."""
    same = quarters[:, None] == values[None, :, :, None, None]
    return same.float().mean(0) * right[..., None, None]


def predict(net: Nano, rgb: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Return logits (P, M, h / 4, w / 4) and predicted IoU (P, M) of a task, clicks first."""
    features = net.image_encoder(rgb)
    prompts = net.prompt_encoder
    inside = torch.full((len(task.clicks), 1), INSIDE)
    corners = torch.tensor([TOP_LEFT, BOTTOM_RIGHT]).expand(len(task.boxes), 2)
    # A click with SAM's padding point and its place token has three tokens, as has a box.
    tokens = torch.cat(
        [
            prompts.tokens(features, points, labels)
            for points, labels in (
                (task.clicks[:, None], inside),
                (task.boxes.view(-1, 2, 2), corners),
            )
            if len(points)
        ]
    )
    image = features.embedding[0].flatten(1).T + prompts.no_mask_embed.weight
    position = prompts.get_dense_pe()[0].flatten(1).T
    rows, columns = features.cells
    drawn = torch.arange(GRID[0] * GRID[1]).view(GRID)[:rows, :columns].flatten()
    details = net.mask_decoder.details(features)
    logits, scores = decode_prompts(net.mask_decoder, image, position, tokens, drawn, details)
    return assemble(logits, features.cells), scores


def compare_masks(logits: Tensor, scores: Tensor, task: Task) -> dict[str, Tensor]:
    """Return the losses of masks (P, 4, h, w) whose first mask is the single one.

    Every right region wants one of the three masks near it and, weaker, every mask wants to be
    near one of them. Near means dice and cross-entropy, the latter relative to the region's size.
    The single mask is compared with the region of middle size.
    """
    known = task.known.flatten()
    x, targets = logits.flatten(2), task.targets.flatten(2) * known
    far, areas = _distance(x, targets, known), targets.sum(2)
    right = task.weights > 0
    three = far[:, 1:]
    reached = (three.min(1).values * task.weights).sum(1)
    nowhere = (~right).float()[:, None] * 1e4
    astray = (three + nowhere).min(2).values.mean(1)
    order = torch.where(right, areas, torch.inf).argsort(1)
    middle = order.gather(1, (right.sum(1, keepdim=True) - 1) // 2)
    single = far[:, 0].gather(1, middle)
    best = _iou(x > 0, targets, known).mul(right[:, None]).max(2).values
    return {
        "masks": (reached + PRECISION_WEIGHT * astray).mean(),
        "single": SINGLE_WEIGHT * single.mean(),
        "iou": IOU_WEIGHT * F.mse_loss(scores, best),
    }


def _distance(x: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Dice and cross-entropy of logits (P, M, N) to targets (P, K, N), (P, M, K), in products."""
    areas, total = targets.sum(2)[:, None], known.sum()
    inside = torch.sigmoid(x) * known
    both = inside @ targets.transpose(1, 2)
    dice = 1 - (2 * both + 1) / (inside.sum(2, keepdim=True) + areas + 1)
    # log(1 + exp x) - x t is the cross-entropy; its first part does not know the target.
    entropy = (F.softplus(x) * known).sum(2, keepdim=True) - (x * known) @ targets.transpose(1, 2)
    return dice + ENTROPY_WEIGHT * entropy / (4 * areas).clamp(min=total / 16).clamp(max=total)


@torch.no_grad()
def _iou(masks: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """IoU of masks (P, M, N) and regions, more than half covered, (P, K, N): (P, M, K)."""
    a, b = masks * known, (targets > 0.5).float()
    both = a @ b.transpose(1, 2)
    return both / (a.sum(2, keepdim=True) + b.sum(2)[:, None] - both).clamp(min=1)


def _optimisers(net: Nano, trunk_rate: float) -> dict[str, Optimisers]:
    """What trains the trunk's pretrained encoder if it has one, the rest of the trunk, and all
    that begins from nothing."""
    encoder = net.image_encoder
    fresh = {name: part for name, part in encoder.named_children() if name != "trunk"}
    rest = fresh | {"prompts": net.prompt_encoder, "decoder": net.mask_decoder}
    trunk = dict(encoder.trunk.named_children())
    made = {}
    if (pretrained := trunk.pop("encoder", None)) is not None:
        made["encoder"] = Optimisers(pretrained, (), trunk_rate * ENCODER_RATE, muon=False)
    made["trunk"] = Optimisers(nn.ModuleDict(trunk), TRUNK_OUTSIDE, trunk_rate)
    made["rest"] = Optimisers(nn.ModuleDict(rest), OUTSIDE)
    return made
