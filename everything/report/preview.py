"""The page that `everything label` writes: a report of the first images of a job."""

from __future__ import annotations

import logging
from pathlib import Path

from everything.core.file_names import printable
from everything.errors import EverythingError

PHOTOS = 400
_log = logging.getLogger(__name__)


def write_preview(out: Path) -> Path:
    """Write the report of the first PHOTOS images of a results folder.

    If that fails, the job does not: the reason is logged.

    Args:
        out: The results folder.

    Returns:
        Path of the page, or of the results folder if the page could not be written.
    """
    from everything.report.build import write_report

    try:
        return write_report(out, limit=PHOTOS)
    except (EverythingError, OSError) as error:
        _log.warning("the report was not written: %s", printable(str(error)))
        return out
