"""Image encoders that see several views at once: a light one leaves a GPU idle with one.

Views are said to be coming before they are asked for. The first that is asked for brings those
behind it along. Batches are always full, of copies if need be, so that a view's numbers do not
depend on how many others there were.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from everything.core.geometry import View
from everything.core.stage_timer import Overtime, StageTimer
from everything.pipeline.adaptive_batch_size import is_out_of_memory

_log = logging.getLogger(__name__)


class EncoderQueue:
    """The views that a model is going to be asked about, in that order.

    model: with `encode_batch` if more than one view is to be encoded `together`. What is known
    of views that were not asked for yet is held: that many embeddings at most.
    """

    def __init__(self, model: Any, together: int) -> None:
        self._model = model
        self._together = together
        self._coming: dict[int, tuple[View, StageTimer]] = {}
        self._known: dict[int, Any] = {}

    def expect(self, views: Sequence[View], timer: StageTimer) -> None:
        """Say that views are coming. clock: of their photo."""
        if self._together > 1:
            self._coming |= {id(view): (view, timer) for view in views}

    def forget(self, views: Sequence[View]) -> None:
        """Say that views will not be asked for any more."""
        for view in views:
            self._coming.pop(id(view), None)
            self._known.pop(id(view), None)

    def embedding(self, view: View, timer: StageTimer) -> Any:
        """Return what the model knows of a view, once; the time that it took counts for the
        photos of all that were encoded with it, to equal parts."""
        if id(view) in self._coming and id(view) not in self._known:
            self._encode_from(view, timer)
        self._coming.pop(id(view), None)
        if id(view) in self._known:
            return self._known.pop(id(view))
        with timer.stage("encode"):
            if self._together == 1:
                return self._model.encode(view)
            return self._model.encode_batch([view] * self._together)[0]

    def _encode_from(self, view: View, timer: StageTimer) -> None:
        waiting = [each for key, each in self._coming.items() if key not in self._known]
        first = next(i for i, (one, _) in enumerate(waiting) if one is view)
        batch = waiting[first : first + self._together]
        views = [one for one, _ in batch]
        try:
            with timer.shared("encode", [other for _, other in batch]):
                full = views + views[:1] * (self._together - len(views))
                found = self._model.encode_batch(full)[: len(views)]
        except Overtime:
            raise  # of this photo alone: the others wait for the next batch
        except Exception as error:
            # Each by itself: the error is the photo's that brings it about, when it is asked for.
            self.forget(views)
            if is_out_of_memory(error):
                self._together = 1
                _log.warning("out of memory: photos are encoded one by one from here on")
            return
        self._known |= {id(one): known for one, known in zip(views, found, strict=True)}
