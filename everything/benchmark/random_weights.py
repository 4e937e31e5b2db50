"""Random weights for timing where trained ones are not available, scaled to behave like SAM's.

A model's time depends on its shapes and on how many masks pass the filters. So the last layers of
its two heads are scaled until predicted IoUs spread around 0.5 and mask logits around 0 as widely
as SAM's do, and thresholds are chosen that given shares of the masks pass. The masks themselves
are meaningless. Samplers that depend on masks get matching settings: a threshold at which a given
share of an image is certain, a head that proposes as many prompts as trained ones do.
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
from torch import Size, Tensor, nn

from everything.benchmark.random_weight_heads import Heads, Model, encoded, mean_features
from everything.core.geometry import Frame, View, whole
from everything.core.interpolation import crossings
from everything.core.prompts import Prompts, lattice
from everything.decoding.reference import PlainCandidates
from everything.detectors.prompt_head import PromptHead
from everything.errors import ConfigError
from everything.pipeline.mask_stats import measure
from everything.variants import VARIANTS, VariantRecord
from everything.variants.checkpoints.key_mapping import Blueprint
from everything.variants.checkpoints.reader import State
from everything.variants.checkpoints.weights import PACKAGED

PASS_IOU, PASS_STABILITY = 0.4, 0.6  # shares of the candidates, and of those that remain
CERTAIN = 0.5  # share of an image that is certain after the hierarchical sampler's first round
PROPOSED = {"max_points": 72, "max_boxes": 40}  # per image, by auto-ppn's trained heads
_SCORE_MEAN, _SCORE_SPREAD, _LOGIT_SPREAD = 0.5, 0.1, 8.0
_POINTS, _PHOTOS, _TOGETHER, _LINES = 8, 2, 32, 64
_LEARNED = re.compile(r"token|point_embed|_point_|no_mask|pos_embed|rel_pos|gaussian")


@dataclass(frozen=True)
class StandIn:
    """A checkpoint of random weights, and its predictions for a small grid on some images.

    Args:
        checkpoint: The file.
        scores: Predicted IoUs, float32 (N,).
        logits: Mask logits by frame, float32 (n, hl, wl), N in all.
        head: Checkpoint of a head for auto-ppn.
    """

    checkpoint: Path
    scores: Tensor
    logits: list[tuple[Frame, Tensor]]
    head: Path

    def thresholds(self, offset: float) -> dict[str, float]:
        """Return pred_iou_thresh and stability_score_thresh that PASS_IOU and PASS_STABILITY pass.

        offset: stability_score_offset.
        """
        pred_iou = float(self.scores.quantile(1 - PASS_IOU))
        stability = self._stability(offset)
        left = stability[(self.scores > pred_iou) & ~stability.isnan()]
        return {
            "pred_iou_thresh": _inside(pred_iou),
            "stability_score_thresh": _inside(float(left.quantile(1 - PASS_STABILITY))),
        }

    def samplers(self, offset: float) -> dict[str, Any]:
        """Return settings of samplers, by name; offset: stability_score_offset."""
        limits = self.thresholds(offset)
        passes = self.scores > limits["pred_iou_thresh"]
        passes &= self._stability(offset) >= limits["stability_score_thresh"]
        parts = torch.split(passes, [len(x) for _, x in self.logits])
        sure = [
            _seen(frame, x[some]).amax(0).flatten()
            for (frame, x), some in zip(self.logits, parts, strict=True)
            if some.any()
        ]
        certain = float(torch.cat(sure).quantile(1 - CERTAIN)) if sure else 0.0
        return {"high_score_thresh": certain, "head": str(self.head), **PROPOSED}

    def _stability(self, offset: float) -> Tensor:
        return torch.cat([measure(x, frame, offset).stability for frame, x in self.logits])


def _seen(frame: Frame, logits: Tensor) -> Tensor:
    """Logits (N, hl, wl) at some evenly spread pixels of the view, (N, h, w)."""
    rows, columns = (torch.arange(0, side, -(-side // _LINES)) for side in frame.view)
    return crossings(logits, frame, rows, columns)


def has_own_weights(record: VariantRecord) -> bool:
    """Whether a variant's trained weights are bundled, so that random ones are not needed."""
    return record.weights.source.startswith(PACKAGED)


def make(variant: str, seed: int, photos: Sequence[NDArray[np.uint8]], folder: Path) -> StandIn:
    """Write random weights of a variant into a folder, scaled on the first two images.

    Args:
        variant: Name of the variant.
        seed: Random seed.
        photos: Images, uint8 (H, W, 3) RGB.
        folder: Where the checkpoint is written.

    Returns:
        The checkpoint and its predictions.

    Raises:
        ConfigError: If the variant is not SAM with another encoder: its shapes or heads are
            unknown.
    """
    plan = _blueprint(variant)
    state = random_state(plan.shapes(), seed)
    model = _model(variant, state)
    heads = Heads(model)
    views = [_Seen(model, whole(photo)) for photo in photos[:_PHOTOS]]
    means = zip(*(view.mean_features() for view in views), strict=True)
    heads.centre_masks([torch.stack(each).mean(0) for each in means])
    answers = [view.answers() for view in views]
    raw = torch.cat([scores for scores, _ in answers])
    raw = raw.double().logit(eps=1e-9).float() if heads.sigmoid else raw
    gain = _LOGIT_SPREAD / float(torch.cat([logits.flatten() for _, logits in answers]).std())
    mean, spread = (0.0, 4 * _SCORE_SPREAD) if heads.sigmoid else (_SCORE_MEAN, _SCORE_SPREAD)
    scale = spread / float(raw.std())
    shift = mean - scale * float(raw.mean())
    heads.scale(scale, shift, gain)
    scores = raw * scale + shift
    path = folder / f"{variant}-random-{seed}.safetensors"
    save_file(heads.put_into(state, plan), path)
    logits = [(view.frame, gain * drawn) for view, (_, drawn) in zip(views, answers, strict=True)]
    head = _make_head(torch.cat([view.features for view in views]), seed, folder)
    return StandIn(path, scores.sigmoid() if heads.sigmoid else scores, logits, head)


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


def _blueprint(variant: str) -> Blueprint[nn.Module]:
    record = VARIANTS[variant]
    module = record.network_module()
    if not hasattr(module, "blueprint"):
        raise ConfigError(f"{variant}: random weights need the network's shapes: leave it out")
    plan: Blueprint[nn.Module] = module.blueprint(**record.options)
    return plan


def _model(variant: str, state: State) -> Model:
    record = VARIANTS[variant]
    module = record.network_module()
    model = module.build(dict(state), f"random {variant}", **record.options)
    if not isinstance(model, Model):
        raise ConfigError(
            f"{variant}: random weights fit only decoders of SAM, HQ-SAM and SAM 2: leave it out"
        )
    return model


class _Seen:
    """A view, encoded once and decoded for a small grid by the plain decoder."""

    @torch.inference_mode()
    def __init__(self, model: Model, view: View) -> None:
        self._model, self.frame = model, model.frame(view.size)
        self._image = encoded(model, view)
        self.features = self._image.embedding
        height, width = view.size
        points = lattice(_POINTS) * torch.tensor([width, height], dtype=torch.float64)
        self._clicks = Prompts.clicks(self.frame.to_canvas(points))

    @torch.inference_mode()
    def answers(self) -> tuple[Tensor, Tensor]:
        """Predicted IoUs (N,) and mask logits (N, hl, wl) of all prompts."""
        starts = range(0, len(self._clicks), _TOGETHER)
        parts = [self._ask(self._clicks[i : i + _TOGETHER]) for i in starts]
        return torch.cat([part.scores for part in parts]), torch.cat([p.logits for p in parts])

    @torch.inference_mode()
    def mean_features(self) -> list[Tensor]:
        """The means over cells and some prompts of what the mask heads multiply, (C,) each."""
        some = self._clicks[:_TOGETHER]
        return mean_features(self._model, self._image, lambda: self._ask(some))

    def _ask(self, clicks: Prompts) -> PlainCandidates:
        return self._image.propose(clicks.points, clicks.labels, multimask_output=True)


def _inside(threshold: float) -> float:
    """Keep a threshold above 0, which would switch the filter off."""
    return round(min(max(threshold, 1e-6), 1.0), 6)
