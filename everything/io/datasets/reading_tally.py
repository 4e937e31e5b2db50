"""What a reader of other programs' annotations left out or mended, counted by reason."""

from __future__ import annotations

import logging
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from everything.core.file_names import printable

_KEPT = 20  # examples
_log = logging.getLogger(__name__)


@dataclass
class ReadingTally:
    """Counts of what was not read as it was written.

    Attributes:
        left_out: Number of annotations that were left out, by reason.
        mended: Number of annotations that were read after a correction, by what was corrected.
        bad_images: Number of images that cannot be used.
        guessed_images: Number of images that were found by the last parts of their names.
        images_not_found: Number of images that were looked for and not found.
        examples: The first twenty of those annotations and images, with their reason.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    bad_images: int = 0
    guessed_images: int = 0
    images_not_found: int = 0
    examples: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, where: str, detail: str = "", count: int = 1) -> None:
        """Count annotations that are left out; the reason is the same text for all of a kind."""
        self.left_out[reason] += count
        self.mention(f"{where}: left out: {detail or reason}")

    def mend(self, what: str) -> None:
        """Count an annotation, or a list of them, that was corrected."""
        self.mended[what] += 1

    def refuse_image(self, where: str, reason: str) -> None:
        """Count an image that cannot be used."""
        self.bad_images += 1
        self.mention(f"{where}: {reason}")

    def reset_to(self, earlier: ReadingTally) -> None:
        """Go back to earlier counts, before a file is read again."""
        vars(self).update(vars(deepcopy(earlier)))

    def lines(self) -> list[str]:
        """Return one line for each reason."""
        lines = [f"{count:,} annotations left out: {why}" for why, count in self.left_out.items()]
        lines += [f"{count:,} mended: {what}" for what, count in self.mended.items()]
        counts = {
            "images left out": self.bad_images,
            "images found by the last parts of their names": self.guessed_images,
            "images not found": self.images_not_found,
        }
        return lines + [f"{count:,} {what}" for what, count in counts.items() if count]

    def mention(self, line: str) -> None:
        """Keep a line about something that is counted elsewhere, if there are few yet."""
        if len(self.examples) < _KEPT:
            self.examples.append(printable(line))


def log_tally(file: Path, tally: ReadingTally) -> None:
    """Log what was left out or mended of a file, for readers without a result to put it in."""
    for line in tally.lines():
        _log.warning("%s: %s", printable(file), line)
