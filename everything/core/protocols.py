"""The protocols of a model and of the candidate masks that it proposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from everything.core.geometry import Frame, Size, View
from everything.core.prompts import Prompts


class Candidates(Protocol):
    """Candidate masks whose scores are known before any of them is drawn.

    N rows, ordered by prompt, then by level. Of rows with equal `identity` only one is drawn. The
    columns are on the CPU, where it is decided which rows to draw; the masks are drawn where the
    model draws: on its device, or, if it makes regions on the CPU, there.
    """

    @property
    def scores(self) -> Tensor:
        """Predicted IoU, float32 (N,)."""
        ...

    @property
    def prompt(self) -> Tensor:
        """Row of the prompt, int64 (N,)."""
        ...

    @property
    def level(self) -> Tensor:
        """Which of the prompt's masks, from 0, int64 (N,)."""
        ...

    @property
    def identity(self) -> Tensor:
        """Equal numbers for the same mask, int64 (N,)."""
        ...

    def draw(self, rows: Tensor) -> Tensor:
        """Draw some rows.

        Args:
            rows: int64 (K,).

        Returns:
            Logits float32 (K, hl, wl) over the canvas, in the order of `rows`, on one device.
        """
        ...


class Model(Protocol):
    """A variant with its weights, on its device: it encodes an image and answers prompts about it.

    A view is an image, or the part of one that is encoded by itself (a crop, a tile). Every method
    is called in inference mode.
    """

    def frame(self, view: Size) -> Frame:
        """Return where a view of (h, w) px lies on the model's canvas."""
        ...

    def encode(self, view: View) -> Any:
        """Return the embedding of a view; only the same model can read it."""
        ...

    def encode_batch(self, views: Sequence[View]) -> list[Any]:
        """Return the embedding of each view, in order; a model whose image encoder takes batches
        runs it once."""
        ...

    def features(self, embedding: Any) -> Tensor:
        """Return feature maps float32 (1, C, h, w) over the canvas, for networks that build on this
        one (samplers/auto_ppn.py)."""
        ...

    def propose(self, embedding: Any, prompts: Prompts, multimask_output: bool) -> Candidates:
        """Return the candidate masks of prompts.

        Args:
            embedding: From `encode` or `encode_batch`.
            prompts: P prompts, in px of the canvas that `frame` describes.
            multimask_output: Three candidates for each prompt instead of one. HQ-SAM makes one of
                the three.
        """
        ...


def in_bulk(model: Model) -> bool:
    """Return whether a model takes any number of prompts at a time, in lots that it sizes itself.

    So do models on accelerators whose decoder computes the image side once. A model says so by an
    attribute `in_bulk`; without it, prompts come in batches of `points_per_batch`.
    """
    return bool(getattr(model, "in_bulk", False))
