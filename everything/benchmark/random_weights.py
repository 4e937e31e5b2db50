"""Stand-ins for weights that are not available: a random encoder, and a decoder that draws blobs.

A model's time depends on its shapes and on how many masks pass the filters, and how large they are.
The encoder's weights are random. The decoder's are written so that masks lie around their prompts
(`blobs`), as large as SAM's; its heads are scaled until as many as of SAM's pass the
variant's thresholds. Masks mean nothing. Samplers that depend on masks get matching settings: a
threshold at which a given share of an image is certain, a head that proposes as many prompts as
trained ones do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Size, Tensor

from everything.benchmark.blobs import decoder as blob_decoder
from everything.benchmark.blobs.modules import DecoderModules
from everything.benchmark.random_checkpoints import checkpoint_of
from everything.benchmark.random_weight_heads import Heads, Model
from everything.config import Filters
from everything.core import mask_ops
from everything.core.geometry import Frame, View, whole
from everything.core.interpolation import crossings
from everything.core.prompts import Prompts, lattice
from everything.core.protocols import Candidates
from everything.detectors.prompt_head import PromptHead
from everything.recipes.resolve import variant_record
from everything.variants.checkpoints.reader import State
from everything.variants.networks.hq_sam import HqSamModel
from everything.variants.networks.repvit import EdgeSamModel

PASS_IOU, PASS_STABILITY = 0.3, 0.5  # shares of the candidates, and of those that remain
CERTAIN = 0.5  # share of an image that is certain after the hierarchical sampler's first round
PROPOSED = {"max_points": 72, "max_boxes": 40}  # per image, by auto-ppn's trained heads
_SPREAD, _SIGMOID_SPREAD = 0.1, 0.8  # of predicted IoUs; of their logits
_POINTS, _COARSE, _IMAGES, _LINES, _HALVINGS = 16, 2, 2, 64, 16
_GAINS = (-10.0, 20.0)  # powers of 2 between which mask logits are scaled
_LEARNED = re.compile(r"token|point_embed|_point_|no_mask|pos_embed|rel_pos|gaussian")


@dataclass(frozen=True)
class StandIn:
    """A checkpoint, the thresholds it was made for, and settings of samplers that suit it."""

    checkpoint: Path
    filters: Filters
    samplers: Mapping[str, Any]


@torch.inference_mode()
def make(variant: str, seed: int, photos: Sequence[NDArray[np.uint8]], folder: Path) -> StandIn:
    """Write stand-in weights of a variant into a folder, scaled on the first two images.

    Args:
        variant: Name of the variant.
        seed: Random seed.
        photos: Images, uint8 (H, W, 3) RGB.
        folder: Where the checkpoint is written.

    Returns:
        The checkpoint, the variant's own thresholds, and settings of samplers.

    Raises:
        ConfigError: If the variant is not SAM with another encoder: its shapes or heads are
            unknown.
    """
    checkpoint = checkpoint_of(variant, folder / f"{variant}-random-{seed}")
    state = random_state(checkpoint.plan.shapes(), seed)
    model = checkpoint.build(state)
    blob_decoder.write(DecoderModules.of(model.network), seed)
    heads, filters = Heads(model), Filters(**variant_record(variant).preset.get("filters", {}))
    rebuilt = checkpoint.rebuilt(model)
    images = [_Image.of(rebuilt, heads, whole(photo)) for photo in photos[:_IMAGES]]
    passes = _scale_scores(heads, images, filters, isinstance(model, HqSamModel))
    share = PASS_STABILITY
    if isinstance(model, EdgeSamModel):  # its scores are the stability
        passes, share = torch.ones_like(passes), PASS_IOU * PASS_STABILITY
    drawn = [image.draw(some) for image, some in _each(images, passes)]
    gain = _mask_gain(torch.cat([masks.logits for masks in drawn]), share, filters)
    heads.scale_masks(gain)
    path = checkpoint.save(heads.put_into(state, checkpoint.plan))
    certain = _certain(drawn, gain, filters)
    head = _make_head(torch.cat([image.features for image in images]), seed, folder)
    return StandIn(path, filters, {"high_score_thresh": certain, "head": str(head), **PROPOSED})


def _scale_scores(heads: Heads, images: Sequence[_Image], filters: Filters, merged: bool) -> Tensor:
    """Scale the head for scores; return which candidates pass the threshold, bool (N,).

    merged: whether a prompt's candidates become one, of the highest score, as in HQ-SAM.
    """
    raw = torch.cat([image.raw for image in images])
    deviation, mean = torch.std_mean(raw, 0)
    raw = (raw - mean) / deviation
    threshold, spread = filters.pred_iou_thresh, _SPREAD
    if heads.sigmoid:
        threshold, spread = math.log(threshold / (1 - threshold)), _SIGMOID_SPREAD
    several = raw[:, 1:].amax(1) if merged else raw[:, 1:].flatten()
    least = float(several.quantile(1 - PASS_IOU))
    scale = spread / deviation
    heads.scale_scores(scale, threshold - spread * least - scale * mean)
    return several > least


def _mask_gain(logits: Tensor, share: float, filters: Filters) -> float:
    """Return by what to multiply logits (N, hl, wl) for a share of them to pass the stability's
    threshold."""
    low, high = _GAINS
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        passing = float(_stable(logits, 2**middle, filters).float().mean())
        low, high = (middle, high) if passing < share else (low, middle)
    return float(2**high)


def _stable(logits: Tensor, gain: float, filters: Filters) -> Tensor:
    """Which masks pass the stability's threshold once logits (N, hl, wl) are multiplied: (N,)."""
    offset = filters.stability_score_offset / gain
    return mask_ops.stability(logits, offset) >= filters.stability_score_thresh


def _certain(drawn: Sequence[_Drawn], gain: float, filters: Filters) -> float:
    """Return the logit, once multiplied, that CERTAIN of the pixels have in some stable mask of a
    coarse grid."""
    seen = []
    for masks in drawn:
        logits = masks.logits[masks.coarse & _stable(masks.logits, gain, filters)]
        if len(logits):
            rows, columns = (torch.arange(0, n, -(-n // _LINES)) for n in masks.frame.view)
            seen.append(crossings(logits, masks.frame, rows, columns).amax(0).flatten())
    return gain * float(torch.cat(seen).quantile(1 - CERTAIN)) if seen else 0.0


def _each(images: Sequence[_Image], flags: Tensor) -> list[tuple[_Image, Tensor]]:
    """Each image with its part of flags (N,) of all candidates."""
    parts = torch.split(flags, [len(image.candidates.scores) for image in images])
    return list(zip(images, parts, strict=True))


def _make_head(features: Tensor, seed: int, folder: Path) -> Path:
    """Write a head of auto-ppn for features (B, C, h, w) that is uncertain everywhere."""
    torch.manual_seed(seed)
    head = PromptHead(features.shape[1])
    head.mean.copy_(features.mean((0, 2, 3)))
    head.deviation.copy_(features.std((0, 2, 3)).clamp(min=1e-6))
    path = folder / f"auto-ppn-random-{seed}-{features.shape[1]}.safetensors"
    save_file({name: value.contiguous() for name, value in head.state_dict().items()}, path)
    return path


def random_state(shapes: Mapping[str, Size], seed: int) -> State:
    """Return tensors of the given names and shapes, the same ones for the same seed.

    Matrices and kernels keep the size of what passes through them; norms do nothing; what is
    learned by itself (tokens, positions) has a spread of 0.5.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _tensor(name, shape, generator) for name, shape in sorted(shapes.items())}


def _tensor(name: str, shape: Size, generator: torch.Generator) -> Tensor:
    if len(shape) == 0:
        return torch.zeros(shape, dtype=torch.int64)  # a batch norm's count
    if _LEARNED.search(name) and len(shape) > 1:
        return 0.5 * torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith(("weight", "var")) else torch.zeros(shape)
    noise = torch.randn(shape, generator=generator)
    return noise.div_(math.sqrt(shape[1:].numel()))


@dataclass(frozen=True)
class _Drawn:
    """Masks of a grid of clicks: logits (N, hl, wl); coarse: of a click of a coarser grid, (N,)."""

    frame: Frame
    logits: Tensor
    coarse: Tensor


@dataclass(frozen=True)
class _Image:
    """An image's answers to a grid of clicks.

    frame: where it lies on the canvas. features: its embedding, (1, C, h, w). raw: what the head
    for scores returns, (P, 4), before a sigmoid.
    """

    frame: Frame
    features: Tensor
    candidates: Candidates
    raw: Tensor

    @classmethod
    def of(cls, model: Model, heads: Heads, view: View) -> _Image:
        frame, image = model.frame(view.size), model.encode(view)
        size = torch.tensor(view.size[::-1], dtype=torch.float64)
        clicks = Prompts.clicks(frame.to_canvas(lattice(_POINTS) * size))
        with heads.raw_scores() as raw:
            candidates = model.propose(image, clicks, True)
        return cls(frame, model.features(image), candidates, torch.cat(raw))

    def draw(self, flags: Tensor) -> _Drawn:
        """Return the masks of some candidates, flags bool (N,)."""
        rows = flags.nonzero()[:, 0]
        y, x = self.candidates.prompt[rows] // _POINTS, self.candidates.prompt[rows] % _POINTS
        coarse = (y % _COARSE == 0) & (x % _COARSE == 0)
        return _Drawn(self.frame, self.candidates.draw(rows), coarse)
