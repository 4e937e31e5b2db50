"""Decoded and Masks: what came out of a model, before and with its place in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from everything.core.geometry import Frame
from everything.core.instance_data import InstanceData
from everything.core.prompts import Prompts
from everything.core.segments import Segments


@dataclass(frozen=True)
class Decoded(InstanceData):
    """N masks of one view as logits.

    logits: float32 (N, hl, wl) over the frame's canvas, > 0 is the mask. scores: float32 (N,)
    predicted IoU. levels: int64 (N,) which of a prompt's answers this is. prompts: N rows, view
    px. frame: where the view lies on the canvas.
    """

    logits: Tensor
    scores: Tensor
    levels: Tensor
    prompts: Prompts
    frame: Frame
    shared: ClassVar[frozenset[str]] = frozenset({"frame"})

    def __post_init__(self) -> None:
        self._check_lengths()


@dataclass(frozen=True)
class Masks(InstanceData):
    """N masks that passed the gate: their logits, for samplers that look at them, and their
    segments, compressed, for everyone else. The pipeline keeps the segments alone."""

    decoded: Decoded
    segments: Segments

    def __post_init__(self) -> None:
        self._check_lengths()
