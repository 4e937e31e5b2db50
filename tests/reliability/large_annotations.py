"""What becomes of small annotation files that claim enormous images, in a process with a limit.

Prints, as JSON, what each command says of the folder. Run as in test_memory.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from everything.core import rle
from everything.evaluation.mask_scores import evaluate
from everything.export import EXPORTERS
from everything.export.run import export
from everything.io.results.mask_filter import MaskFilter
from everything.jobs.filter_labels import filter_labels
from everything.report.build import write_report
from tests.labelled import disc, recipe, records
from tests.reliability.short_of_memory import MIB, at_most

HUGE, LARGE, SMALL = (65_535, 65_535), (3000, 3000), (40, 60)
MORE = 160 * MIB  # 18 bytes for each pixel of LARGE
FORMATS = [*sorted(EXPORTERS.builtin), "coco-polygons"]


def columns(size: tuple[int, int], step: int, side: int) -> rle.Rle:
    """Every `step`-th column of a square of `side` px in the corner."""
    starts = np.arange(0, side, step) * size[0]
    return rle.encode_columns(np.stack([starts, starts + side], 1).ravel(), size)


def annotations(size: tuple[int, int]) -> list[dict[str, Any]]:
    """The whole image, two pixels in opposite corners, stripes, a large square and a small one."""
    height, width = size
    last = height * width - 1
    codes = [
        rle.encode_edges(np.array([0, last + 1]), size),
        rle.encode_edges(np.array([0, 1, last, last + 1]), size),
        columns(size, 2, 2990),
        columns(size, 1, 2000),
        columns(size, 1, 7),
    ]
    areas = rle.areas(codes).tolist()
    return [
        {"id": row, "segmentation": code, "area": area, "predicted_iou": 0.9, "bbox": [0, 0, 9, 9]}
        for row, (code, area) in enumerate(zip(codes, areas, strict=True))
    ]


def write(folder: Path, name: str, size: tuple[int, int], masks: list[dict[str, Any]]) -> None:
    """Write an image's annotation with a recipe that has label maps."""
    about = {"image_id": 1, "width": size[1], "height": size[0], "file_name": f"{name}.png"}
    options = recipe().model_dump(mode="json")
    options["output"] |= {"label_map": True, "label_map_full": True}
    content = {"image": about, "annotations": masks, "recipe": options, "timing": {}}
    (folder / f"{name}.json").write_text(json.dumps(content))


def exported(labels: Path, to: str, out: Path) -> dict[str, Any]:
    """Export within the limit: nothing of HUGE is drawn, LARGE is."""
    polygons = to == "coco-polygons"
    with at_most(MORE):
        done = export(
            labels, "coco" if polygons else to, out, photos="none", polygons=polygons,
            max_pixels=LARGE[0] * LARGE[1],
        )  # fmt: skip
    return {"images": done.images, "masks": done.masks, "large": done.too_large,
            "reasons": done.image_reasons}  # fmt: skip


def main(home: Path) -> dict[str, Any]:
    """Return what each command says."""
    labels = home / "labels"
    labels.mkdir()
    write(labels, "a-huge", HUGE, annotations(HUGE))
    write(labels, "b-large", LARGE, annotations(LARGE))
    write(labels, "c-small", SMALL, records([disc(SMALL, (20, 20), 9)]))
    write_report(labels, home / "warm-up", limit=1)  # libraries are loaded without the limit
    found: dict[str, Any] = {}
    for to in FORMATS:
        export(labels, "coco", home / "warm-up" / to)
        found[to] = exported(labels, to, home / "out" / to)
    truth = evaluate(labels, labels)
    with at_most(MORE):
        assert evaluate(labels, labels).to_json() == truth.to_json()
        page = write_report(labels, home / "page")
        done = filter_labels(labels, home / "filtered", MaskFilter(), max_pixels=10_000)
    found["evaluate"] = {"photos": truth.photos, "covering": truth.covering}
    found["report"] = json.loads((page.parent / "report.json").read_bytes())["folders"][0]["masks"]
    found["filter"] = {"photos": done.photos, "unreadable": done.unreadable}
    found["bytes"] = sum(file.stat().st_size for file in labels.iterdir())
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
