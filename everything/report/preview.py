"""The page that a job leaves behind: a report of its first photos, whatever the job's size."""

from __future__ import annotations

import logging
from pathlib import Path

from everything.core.file_names import printable
from everything.errors import EverythingError

PHOTOS = 400
_log = logging.getLogger(__name__)


def write_preview(out: Path) -> Path:
    """Write the report of the first PHOTOS photos of a results folder and return its page.

    The labels are what the job is about: if the page cannot be made, the reason is logged and the
    results folder returned instead.
    """
    from everything.report.build import write_report

    try:
        return write_report(out, limit=PHOTOS)
    except (EverythingError, OSError) as error:
        _log.warning("no page was made: %s", printable(str(error)))
        return out
