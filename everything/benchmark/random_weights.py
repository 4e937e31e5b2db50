"""Weights for timing where the real ones are not: seeded noise, scaled to behave like SAM's.

A network's time depends on its shapes, and on how many masks pass the filters. So its two heads
are scaled until predicted IoUs spread around 0.5 and mask logits as widely as SAM's do, and the
thresholds are put where given parts of the masks pass. The masks themselves mean nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Size, Tensor

from everything.errors import ConfigError
from everything.measure import measure
from everything.model import Model
from everything.prompts import Prompts, lattice
from everything.variants import VARIANTS, VariantRecord
from everything.variants.weights import PACKAGED, State
from everything.view import Frame, whole

PASS_IOU, PASS_STABILITY = 0.4, 0.6  # parts of the candidates, and of those that remain
_SCORE_MEAN, _SCORE_SPREAD, _LOGIT_SPREAD = 0.5, 0.1, 8.0
_POINTS, _PHOTOS, _TOGETHER = 10, 2, 32
_LEARNED = re.compile(r"token|point_embed|_point_|no_mask|pos_embed|rel_pos|gaussian")
_SCORE_HEAD = re.compile(r"iou_prediction_head\.layers\.2\.(weight|bias)$")
_MASK_HEAD = re.compile(r"output_hypernetworks_mlps\.\d\.layers\.2\.(weight|bias)$")


@dataclass(frozen=True)
class StandIn:
    """A checkpoint of random weights, and the thresholds that fit them."""

    checkpoint: Path
    pred_iou_thresh: float
    stability_score_thresh: float


def has_own_weights(record: VariantRecord) -> bool:
    """Whether a variant's trained weights come with the program, so that none must be made up."""
    return record.weights.source.startswith(PACKAGED)


def make(
    variant: str, seed: int, photos: Sequence[NDArray[np.uint8]], offset: float, folder: Path
) -> StandIn:
    """Write seeded random weights of a variant into a folder, fitted to the first two photos.

    photos: uint8 (H, W, 3) RGB. offset: stability_score_offset. Raises ConfigError for a variant
    whose shapes or heads are not known.
    """
    state = random_state(_shapes(variant), seed)
    model = _model(variant, state)
    answers = [_answer(model, photo) for photo in photos[:_PHOTOS]]
    gain = _LOGIT_SPREAD / float(torch.cat([a.logits.flatten() for a in answers]).std())
    raw = torch.cat([answer.scores for answer in answers])
    scale = _SCORE_SPREAD / float(raw.std())
    shift = _SCORE_MEAN - scale * float(raw.mean())
    stability = torch.cat([measure(gain * a.logits, a.frame, offset).stability for a in answers])
    scores = raw * scale + shift
    pred_iou = float(scores.quantile(1 - PASS_IOU))
    left = stability[(scores > pred_iou) & ~stability.isnan()]
    path = folder / f"{variant}-random-{seed}.safetensors"
    save_file(_scaled(state, scale, shift, gain), path)
    return StandIn(path, _inside(pred_iou), _inside(float(left.quantile(1 - PASS_STABILITY))))


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


def _shapes(variant: str) -> Mapping[str, Size]:
    record = VARIANTS[variant]
    module = import_module(f"everything.variants.{record.module}")
    if not hasattr(module, "blueprint"):
        raise ConfigError(f"{variant}: random weights need the network's shapes: leave it out")
    shapes: Mapping[str, Size] = module.blueprint(**record.options).shapes()
    if not any(map(_SCORE_HEAD.search, shapes)) or not any(map(_MASK_HEAD.search, shapes)):
        raise ConfigError(f"{variant}: random weights fit only SAM's heads: leave it out")
    return shapes


def _model(variant: str, state: State) -> Model:
    record = VARIANTS[variant]
    module = import_module(f"everything.variants.{record.module}")
    model: Model = module.build(dict(state), f"random {variant}", **record.options)
    return model


@dataclass(frozen=True)
class _Answer:
    """Every answer to a small grid: scores (N,), logits (N, hl, wl) and their frame."""

    scores: Tensor
    logits: Tensor
    frame: Frame


@torch.inference_mode()
def _answer(model: Model, photo: NDArray[np.uint8]) -> _Answer:
    view = whole(photo)
    frame, embedding = model.frame(view.size), model.encode(view)
    height, width = view.size
    points = lattice(_POINTS) * torch.tensor([width, height], dtype=torch.float64)
    scores, logits = [], []
    for some in torch.split(frame.to_canvas(points), _TOGETHER):
        drafts = model.propose(embedding, Prompts.clicks(some), multimask_output=True)
        scores.append(drafts.scores.cpu())
        logits.append(drafts.draw(torch.arange(len(drafts.scores))).cpu())
    return _Answer(torch.cat(scores), torch.cat(logits), frame)


def _scaled(state: State, scale: float, shift: float, gain: float) -> State:
    """The state with scores * scale + shift, and logits * gain: both heads end in a linear map."""
    scaled = dict(state)
    for name, tensor in state.items():
        if _SCORE_HEAD.search(name):
            scaled[name] = tensor * scale + (shift if name.endswith("bias") else 0.0)
        elif _MASK_HEAD.search(name):
            scaled[name] = tensor * gain
    return scaled


def _inside(threshold: float) -> float:
    """A threshold of 0 would switch the filter off."""
    return round(min(max(threshold, 1e-6), 1.0), 6)
