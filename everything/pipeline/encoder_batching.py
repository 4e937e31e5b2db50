"""Batches of views for image encoders: a small encoder leaves a GPU idle with one view at a time.

Views are announced before they are used. The first one that is used is encoded together with those
announced after it. Batches are always full, of copies if need be, so that a view's embedding does
not depend on how many others there were.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from everything.core.geometry import View
from everything.core.protocols import Model
from everything.core.stage_timer import Overtime, StageTimer
from everything.pipeline.adaptive_batch_size import is_out_of_memory

_log = logging.getLogger(__name__)


@dataclass
class _Announced:
    """A view that is going to be used. timer: its image's. embedding: None until it is encoded."""

    view: View
    timer: StageTimer
    embedding: Any = None


class EncoderQueue:
    """The views that are going to be used, in that order, and their embeddings.

    Args:
        batch_size: Views per batch; at most so many embeddings are held.
    """

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._waiting: list[_Announced] = []

    def expect(self, views: Sequence[View], timer: StageTimer) -> None:
        """Announce views. timer: of their image."""
        if self._size > 1:
            self._waiting += [_Announced(view, timer) for view in views]

    def forget(self, views: Sequence[View]) -> None:
        """Drop views that will not be used any more."""
        self._waiting = [
            one for one in self._waiting if not any(one.view is view for view in views)
        ]

    def embedding(self, model: Model, view: View, timer: StageTimer) -> Any:
        """Return a view's embedding by a model, once.

        The time of a batch counts in equal parts for the images of all views in it.
        """
        place = self._place(view)
        if place is not None and self._waiting[place].embedding is None:
            self._encode_from(model, place, timer)
            place = self._place(view)
        known = None if place is None else self._waiting.pop(place).embedding
        if known is not None:
            return known
        with timer.stage("encode"):
            if self._size == 1:
                return model.encode(view)
            return model.encode_batch([view] * self._size)[0]

    def _place(self, view: View) -> int | None:
        return next((i for i, one in enumerate(self._waiting) if one.view is view), None)

    def _encode_from(self, model: Model, place: int, timer: StageTimer) -> None:
        """Encode the view at a place of the queue with those after it that are not encoded yet."""
        batch = [one for one in self._waiting[place:] if one.embedding is None][: self._size]
        views = [one.view for one in batch]
        try:
            with timer.shared("encode", [one.timer for one in batch]):
                full = views + views[:1] * (self._size - len(views))
                found = model.encode_batch(full)[: len(views)]
        except Overtime:
            raise  # of this image alone: the others wait for the next batch
        except Exception as error:
            # Each view is encoded by itself: the error is of the image that causes it.
            self.forget(views)
            if is_out_of_memory(error):
                self._size = 1
                _log.warning("out of memory: images are encoded one by one from here on")
            return
        for one, embedding in zip(batch, found, strict=True):
            one.embedding = embedding
