"""Decoding on a CPU: small batches, each drawn and filtered before the next, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator

from everything.core.out_of_memory import is_out_of_memory
from everything.core.prompts import Prompts
from everything.core.protocols import Candidates
from everything.masks.masks import Decoded, Masks
from everything.pipeline.decoding_context import DecodingContext
from everything.pipeline.filtering import accept, promising

# Masks drawn together are a multiple of three, so that a click's answers stay together, and what
# they take is below 32 MiB: malloc would ask the system for more, and clear it, each time. On a
# GPU only waits count, so that as many as may be are drawn together.
FIRST, MOST, WORKING_SET = 24, 96, 16 * 2**20  # masks; bytes of logits


def stream(context: DecodingContext, prompts: Prompts, multimask_output: bool) -> Iterator[Masks]:
    """Yield the masks of prompts (P rows, view px) that pass the filters, batch by batch.

    Where memory runs out in the decoder, the batch size is halved and the batch repeated.
    """
    done, batch_size = 0, context.state.batch_size
    while done < len(prompts):
        batch = prompts[done : done + batch_size.points_per_batch]
        try:
            with context.timer.stage("decode"):
                candidates = context.propose(batch, multimask_output)
        except Exception as error:
            if batch_size.survives(error):
                continue
            raise
        context.count(candidates)
        done += len(batch)
        yield from _accepted(context, candidates, batch)


def _accepted(
    context: DecodingContext, candidates: Candidates, prompts: Prompts
) -> Iterator[Masks]:
    """The candidates of prompts that pass, a bounded number at a time; only those with a
    sufficient score are drawn at all."""
    view, filters, timer = context.view, context.recipe.filters, context.timer
    rows, together, most = promising(candidates, filters), FIRST, MOST
    timer.counts["promising"] += len(rows)
    while len(rows):
        some = rows[:together]
        try:
            with timer.stage("decode"):
                logits = candidates.draw(some)
            decoded = Decoded.of(candidates, some, logits, prompts, context.frame)
            with timer.stage("select"):
                masks = accept(decoded, view, filters, context.arithmetic)
        except Exception as error:
            if not is_out_of_memory(error) or together <= 3:
                raise
            together = most = together // 6 * 3  # fewer at a time need less, and are the same masks
            continue
        rows = rows[together:]
        room = WORKING_SET // logits[0].nbytes if logits.device.type == "cpu" else most
        together = min(most, max(3, room // 3 * 3))
        timer.counts["stable"] += len(masks)
        yield masks
