"""EXPORTERS: every format that annotations can be exported to, by name.

To add one here: a file with `write(images, job)` (everything/export/writer.py), a record in
EXPORTERS, its reader in tests/export. To add one from another package: an entry point of the group
`everything.exporters` that names an Exporter (everything/core/plugins.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from everything.core.plugins import Registry

if TYPE_CHECKING:
    from everything.export.writer import Drawn, ImagePlacement, Write


@dataclass(frozen=True)
class Exporter:
    """What is known of a format before its module is imported.

    Args:
        where: "module:function" that writes it (a `Write` of everything/export/writer.py),
            imported when first used.
        summary: What the format is and how exactly it holds masks, in one line.
        images: Whether images are placed in the export if the user does not say: "link" where the
            format's readers need them, "copy" where its files hold them.
        crowds: Whether the format tells crowds (COCO's `iscrowd`) from single objects.
        draws: What it decodes to pixels, which is limited by `--max-pixels`: nothing (run lengths
            are enough), masks inside their boxes, or whole images.
    """

    where: str
    summary: str
    images: ImagePlacement = "none"
    crowds: bool = False
    draws: Drawn = "images"

    def load(self) -> Write:
        """Import and return the function that writes the format."""
        module, name = self.where.split(":")
        write: Write = getattr(import_module(module), name)
        return write


EXPORTERS = Registry(
    {
        "coco": Exporter(
            "everything.export.coco:write",
            "COCO, one JSON file: run-length codes or polygons",
            crowds=True,
            draws="nothing",
        ),
        "yolo-seg": Exporter(
            "everything.export.yolo_seg:write",
            "ultralytics: one outline per mask",
            "link",
            draws="masks",
        ),
        "label-studio": Exporter(
            "everything.export.label_studio:write",
            "Label Studio: tasks with brush predictions",
            draws="masks",
        ),
        "cvat": Exporter(
            "everything.export.cvat:write", "CVAT for images 1.1: masks", draws="masks"
        ),
        "voc-png": Exporter(
            "everything.export.voc_png:write",
            "Pascal VOC: no overlaps, up to 254 masks per image",
            "link",
        ),
        "panoptic": Exporter(
            "everything.export.panoptic:write", "COCO panoptic: no overlaps", crowds=True
        ),
        "geojson": Exporter(
            "everything.export.geojson:write",
            "one file per image: polygons with holes, in pixels",
            draws="masks",
        ),
        "mask-png": Exporter(
            "everything.export.mask_png:write",
            "a PNG per mask and a table per image, as segment_anything's amg.py writes them",
        ),
        "datasets": Exporter(
            "everything.export.datasets:write",
            "Hugging Face `datasets`: parquet with images, masks, boxes, scores, levels",
            "copy",
            crowds=True,
            draws="nothing",
        ),
    },
    "everything.exporters",
    Exporter,
)

# Other names that people know formats by.
ALIASES = {
    "yolo": "yolo-seg",
    "yolov8": "yolo-seg",
    "ultralytics": "yolo-seg",
    "voc": "voc-png",
    "pascal-voc": "voc-png",
    "labelstudio": "label-studio",
    "coco-panoptic": "panoptic",
    "amg": "mask-png",
    "png": "mask-png",
    "huggingface": "datasets",
    "hf": "datasets",
    "parquet": "datasets",
}


def format_named(name: str) -> str:
    """Return the name in EXPORTERS of a format in any case, with - or _, or by an alias.

    A name that is not known is returned as it is.
    """
    if name in EXPORTERS:
        return name
    plain = name.strip().lower().replace("_", "-")
    return plain if plain in EXPORTERS.builtin else ALIASES.get(plain, name)
