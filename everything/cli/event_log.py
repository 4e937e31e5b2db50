"""What a job does, as one JSON object per line, for programs (`label --log-json`).

Every line has `event` and `time` (seconds since 1970):

start  out, images, variant, sampler, digest (of the recipe), version (of the program)
image  name, status (done, failed or skipped); unless skipped also width, height (px), attempt,
       host, seconds (per stage, and total); masks if done, error if failed
log    level (info, warning, error), message
error  message, exit_code: the job could not run or go on
end    the summary, as --json prints it, and exit_code
"""

from __future__ import annotations

import json
import logging
import time
from threading import Lock
from typing import Any, TextIO

from everything.config import Recipe
from everything.core.file_names import printable
from everything.io.results.manifest_rows import Row
from everything.jobs.progress import JobObserver
from everything.jobs.summary import Summary


class EventLog(JobObserver):
    """Writes the events of a job to a stream; may be called from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Write a line."""
        line = json.dumps({"event": event, "time": round(time.time(), 3)} | fields)
        with self._lock:
            print(line, file=self._stream, flush=True)

    def started(self, summary: Summary, recipe: Recipe) -> None:
        """Write what is about to be done."""
        self.write(
            "start",
            out=printable(summary.out),
            images=summary.images,
            variant=recipe.variant,
            sampler=recipe.sampler["name"],
            digest=recipe.digest,
            version=recipe.version,
        )

    def image(self, name: str, row: Row | None) -> None:
        """Write the result of an image."""
        if row is None:
            self.write("image", name=name, status="skipped")
            return
        outcome: dict[str, Any] = {"error": row.error}
        if row.status == "done":
            outcome = {"masks": row.counts.get("masks", 0)}
        seconds = {stage: round(value, 4) for stage, value in row.seconds.items()}
        self.write(
            "image", name=name, status=row.status, width=row.width, height=row.height,
            attempt=row.attempt, host=row.host, seconds=seconds, **outcome,
        )  # fmt: skip

    def ended(self, summary: Summary) -> None:
        """Write the summary."""
        self.write("end", **summary.as_dict(), exit_code=summary.exit_code)

    def error(self, message: str, exit_code: int) -> None:
        """Write why the job could not run."""
        self.write("error", message=message, exit_code=exit_code)


class EventHandler(logging.Handler):
    """Writes the program's log as events."""

    def __init__(self, events: EventLog) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self._events.write("log", level=record.levelname.lower(), message=record.getMessage())
