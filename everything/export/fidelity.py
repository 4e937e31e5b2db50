"""How closely an export holds the masks: counts, and IoU with the masks that were exported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from everything.core.file_names import printable

GOOD = 0.95  # IoU
_REASONS = 20


@dataclass
class Fidelity:
    """Counts of images and masks, and the IoU of each exported mask with the original.

    Args:
        images: Number of images.
        images_left_out: Number of images that a review leaves out, with all their masks.
        masks: Number of masks written.
        total: Sum of the masks' IoUs.
        least: The lowest IoU.
        least_of: Image and id of the mask with the lowest IoU; "" if all are exact.
        poor: Number of masks with an IoU below GOOD.
        hidden: In formats without overlaps, number of masks entirely below others; their IoU is 0.
        left_out: Number of masks beyond what the format holds, that a filter or review leaves out,
            without a pixel, or too large.
        too_large: Number of images, and of masks in others, that would take too much memory.
        unreadable: Number of annotation files that cannot be read, as after an edit by hand.
        crowds: Number of crowds (COCO's `iscrowd`) that the format holds as single objects.
        images_not_found: Number of images that were to be placed in the export and were not found,
            or cannot be read.
        images_changed: Number of images that are not of the size that was labelled, as after a
            rotation. They are not placed.
        images_refused: Number of images that readers of the format would not see. They are not
            placed.
        images_converted: Number of images that were written as PNG, since readers of the format
            would not read the original as it was labelled.
        image_reasons: The first of the images that are not in the export, and why.
    """

    images: int = 0
    images_left_out: int = 0
    masks: int = 0
    total: float = 0.0
    least: float = 1.0
    least_of: str = ""
    poor: int = 0
    hidden: int = 0
    left_out: int = 0
    too_large: int = 0
    unreadable: int = 0
    crowds: int = 0
    images_not_found: int = 0
    images_changed: int = 0
    images_refused: int = 0
    images_converted: int = 0
    image_reasons: list[str] = field(default_factory=list)

    def add(self, iou: float, image: str, mask: int) -> None:
        """Count a mask with the IoU that readers of the export get; image and id name it."""
        self.masks += 1
        self.total += iou
        self.poor += iou < GOOD
        self.hidden += iou == 0
        if iou < self.least:
            self.least, self.least_of = iou, f"{printable(image)}, mask {mask}"

    def add_exact(self, masks: int) -> None:
        """Count masks that the export holds exactly."""
        self.masks += masks
        self.total += masks

    def mention(self, image: str, reason: str) -> None:
        """Keep why an image is not in the export; the first twenty are kept."""
        if len(self.image_reasons) < _REASONS:
            self.image_reasons.append(printable(f"{image}: {reason}"))

    def to_json(self) -> dict[str, Any]:
        """Return the counts as the content of export.json."""
        return {
            "photos": self.images,
            "photos_left_out": self.images_left_out,
            "masks": self.masks,
            "mean_iou": self.total / self.masks if self.masks else None,
            "least_iou": self.least if self.masks else None,
            "least_iou_of": self.least_of or None,
            "masks_below_iou_0.95": self.poor,
            "masks_hidden": self.hidden,
            "masks_left_out": self.left_out,
            "too_large": self.too_large,
            "annotations_unreadable": self.unreadable,
            "crowds_as_masks": self.crowds,
            "photos_not_found": self.images_not_found,
            "photos_changed": self.images_changed,
            "photos_refused": self.images_refused,
            "photos_converted": self.images_converted,
            "photo_reasons": self.image_reasons,
        }

    def table(self) -> Table:
        """Return the counts as a table for the terminal."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_row("images", f"{self.images:,}")
        if self.images_left_out:
            table.add_row("images left out by the review", f"{self.images_left_out:,}")
        table.add_row("masks", f"{self.masks:,}")
        if self.masks:
            table.add_row("mean IoU with the masks", f"{self.total / self.masks:.4f}")
        if self.least_of:
            table.add_row(f"  lowest ({self.least_of})", f"{self.least:.4f}")
            table.add_row(f"  masks below IoU {GOOD}", f"{self.poor:,}")
        if self.hidden:
            table.add_row("masks hidden by others", f"{self.hidden:,}")
        if self.left_out:
            table.add_row("masks left out", f"{self.left_out:,}")
        if self.crowds:
            table.add_row("crowds written as single objects", f"{self.crowds:,}")
        counts = {
            "images and masks too large, left out": self.too_large,
            "annotation files that cannot be read, left out": self.unreadable,
            "images not found": self.images_not_found,
            "images that have changed since": self.images_changed,
            "images that its readers would not see, left out": self.images_refused,
            "images converted to PNG": self.images_converted,
        }
        for what, count in counts.items():
            if count:
                table.add_row(what, f"{count:,}")
        return table
