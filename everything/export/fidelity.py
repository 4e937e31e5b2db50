"""What an export has kept: counted, and measured against the masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from everything.core.file_names import printable

GOOD = 0.95


@dataclass
class Tally:
    """Photos, masks, and the IoU of what was written with the masks that it was written for.

    total: sum of the IoUs. least, least_of: the lowest one and whose it is. poor: masks below
    GOOD. hidden: masks that nothing is left of where others lie on top, in formats without
    overlaps; their IoU is 0. left_out: masks beyond what the format holds, and those without a
    pixel. lost_photos: photos that were to be placed and could not be found.
    """

    photos: int = 0
    masks: int = 0
    total: float = 0.0
    least: float = 1.0
    least_of: str = ""
    poor: int = 0
    hidden: int = 0
    left_out: int = 0
    lost_photos: int = 0

    def add(self, iou: float, photo: str, mask: int) -> None:
        """Count a mask that was written with this IoU, by its photo and id."""
        self.masks += 1
        self.total += iou
        self.poor += iou < GOOD
        self.hidden += iou == 0
        if iou < self.least:
            self.least, self.least_of = iou, f"{printable(photo)}, mask {mask}"

    def add_exact(self, masks: int) -> None:
        """Count masks that were written as they are."""
        self.masks += masks
        self.total += masks

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "photos": self.photos,
            "masks": self.masks,
            "mean_iou": self.total / self.masks if self.masks else None,
            "least_iou": self.least if self.masks else None,
            "least_iou_of": self.least_of or None,
            "masks_below_iou_0.95": self.poor,
            "masks_hidden": self.hidden,
            "masks_left_out": self.left_out,
            "photos_not_found": self.lost_photos,
        }

    def table(self) -> Table:
        """Return it for the terminal."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_row("photos", f"{self.photos:,}")
        table.add_row("masks", f"{self.masks:,}")
        if self.masks:
            table.add_row("IoU with the masks, mean", f"{self.total / self.masks:.4f}")
        if self.least_of:
            table.add_row(f"  least ({self.least_of})", f"{self.least:.4f}")
            table.add_row(f"  masks below {GOOD}", f"{self.poor:,}")
        if self.hidden:
            table.add_row("masks hidden by others on top", f"{self.hidden:,}")
        if self.left_out:
            table.add_row("masks left out", f"{self.left_out:,}")
        if self.lost_photos:
            table.add_row("photos not found, not placed", f"{self.lost_photos:,}")
        return table
