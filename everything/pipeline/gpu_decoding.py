"""Decoding on an accelerator: first the scores of all prompts, then all masks, in large lots.

The host waits once for the scores, from which it chooses the rows to draw, and once for the
measures of all masks drawn. What passes stays on the device (device_masks.py) until NMS is done.
"""

from __future__ import annotations

from collections.abc import Iterator

from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.masks.masks import Decoded, Masks
from everything.pipeline.decoding_context import DecodingContext
from everything.pipeline.device_masks import bytes_per_mask
from everything.pipeline.filtering import accept, promising

PROMPTS = 4096  # scored before any is drawn; what is kept of each for drawing is some 60 kB
SCALE = 4  # canvas px per logit, of SAM


def decode_in_bulk(
    context: DecodingContext, prompts: Prompts, multimask_output: bool
) -> Iterator[Masks]:
    """Yield the masks of prompts (P rows, view px) that pass the filters.

    Where memory runs out, lots are halved for the rest of the run and repeated.
    """

    def propose(lot: slice) -> tuple[Candidates, Prompts]:
        with context.timer.stage("decode"):
            candidates = context.propose(prompts[lot], multimask_output)
            context.count(candidates)
            return candidates, prompts[lot]

    for candidates, batch in context.state.prompts.each(len(prompts), PROMPTS, propose):
        yield from _accepted(context, candidates, batch)


def _accepted(
    context: DecodingContext, candidates: Candidates, prompts: Prompts
) -> Iterator[Masks]:
    timer, filters = context.timer, context.recipe.filters
    rows = promising(candidates, filters)
    timer.counts["promising"] += len(rows)
    memory = context.recipe.compute.device_bytes // 2
    height, width = (length // SCALE for length in context.frame.canvas)

    def draw(lot: slice) -> Masks:
        with timer.stage("decode"):
            logits = candidates.draw(rows[lot])
        decoded = Decoded.of(candidates, rows[lot], logits, prompts, context.frame)
        with timer.stage("select"):
            return accept(decoded, context.view, filters, context.arithmetic, memory)

    # Those that pass are copied, so that logits count twice.
    most = memory // (2 * 4 * height * width + bytes_per_mask(context.frame.view))
    for masks in context.state.masks.each(len(rows), most, draw):
        timer.counts["stable"] += len(masks)
        yield masks
