"""Notices a job in which nothing works: its first images all fail for the same reason."""

from __future__ import annotations

import re

from everything.core.file_names import printable
from everything.errors import JobError
from everything.io.images.sources import Source
from everything.io.results.manifest_rows import Row

STOP_AFTER = 20
_NUMBER = re.compile(r"\d+")


class AlikeFailures:
    """Counts the first images of a job while all of them fail for the same reason.

    Args:
        limit: The number of such failures that stops the job; 0: never.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._count, self._reason = limit, 0, ""

    def add(self, row: Row) -> None:
        """Count an image.

        Raises:
            JobError: It was the last of `limit` images that failed for the same reason.
        """
        if self._limit == 0:
            return
        reason = _reason(row)
        if row.status == "done" or reason != (self._reason or reason):
            self._limit = 0  # something works, or not everything fails alike
            return
        self._reason, self._count = reason, self._count + 1
        if self._count == self._limit:
            raise JobError(
                f"the first {self._count} images failed for the same reason ({row.error}): correct "
                "it and rerun the same command, or rerun it with --stop-after-failures 0"
            )


def _reason(row: Row) -> str:
    """The error of an image without what differs from image to image: its names and numbers."""
    source = Source(row.folder or "", row.name, None, row.file, row.start)
    text = row.error or ""
    for name in (source.printable, printable(row.name)):
        text = text.replace(name, "")
    return _NUMBER.sub("0", text)
