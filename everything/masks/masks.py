"""Decoded and Masks: masks as a model returns them, and with their place in the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from everything.core.geometry import Frame
from everything.core.instance_data import InstanceData
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.masks.segments import Segments


@dataclass(frozen=True)
class Decoded(InstanceData):
    """N masks of one view as logits.

    Attributes:
        logits: float32 (N, hl, wl) over the frame's canvas; a pixel above the mask threshold (0 if
            nothing else is asked for) is in the mask.
        scores: float32 (N,), predicted IoU.
        levels: int64 (N,), which of its prompt's masks each one is.
        prompts: N rows, view px.
        frame: Where the view lies on the canvas.
    """

    logits: Tensor
    scores: Tensor
    levels: Tensor
    prompts: Prompts
    frame: Frame
    shared: ClassVar[frozenset[str]] = frozenset({"frame"})

    def __post_init__(self) -> None:
        self._check_lengths()

    @classmethod
    def of(
        cls, candidates: Candidates, rows: Tensor, logits: Tensor, prompts: Prompts, frame: Frame
    ) -> Self:
        """Return some candidates that are drawn.

        Args:
            candidates: The candidates.
            rows: int64 (N,) of them.
            logits: float32 (N, hl, wl), as they are drawn.
            prompts: What the candidates answer, view px.
            frame: Where the view lies on the canvas.
        """
        of = candidates.prompt[rows]
        return cls(logits, candidates.scores[rows], candidates.level[rows], prompts[of], frame)


@dataclass(frozen=True)
class Masks(InstanceData):
    """N masks that passed the thresholds, as logits and as segments.

    Samplers may use the logits; the pipeline keeps only the segments.

    Attributes:
        decoded: The masks as logits over the view.
        segments: The same masks, compressed, in image coordinates.

    Example:
        >>> import torch
        >>> from everything.core.geometry import Frame
        >>> from everything.masks.masks import Decoded
        >>> segments = Segments.empty()
        >>> canvas = Frame(view=(8, 8), canvas=(8, 8), content=(0, 0, 8, 8))
        >>> logits = torch.zeros(0, 8, 8)
        >>> decoded = Decoded(logits, segments.scores, segments.levels, segments.prompts, canvas)
        >>> len(Masks(decoded, segments))
        0
    """

    decoded: Decoded
    segments: Segments

    def __post_init__(self) -> None:
        self._check_lengths()

    def of_class(self, name: str) -> Self:
        """Return the same masks, all of one class."""
        segments = replace(self.segments, categories=[name] * len(self))
        return replace(self, segments=segments)
