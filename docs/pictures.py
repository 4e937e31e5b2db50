"""Make the pictures of the README and docs: `python docs/pictures.py LABELS OTHERS OUT`.

LABELS and OTHERS are what `everything label --demo --out LABELS` and `everything label --demo
--sampler all-instance --out OTHERS` have written. report.jpg needs playwright and Chromium.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from everything.config import Level
from everything.core.mask_hierarchy import LEVELS, levels_of
from everything.core.sa1b import Annotation
from everything.export.run import export
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.report.build import write_report
from everything.report.overlay import overlay, palette

Pixels = NDArray[np.uint8]
GAP = 6  # px
SMALL = 0.004  # of the image: smaller wholes are left out of the README's first picture
ASTRONAUT, COFFEE, CAT, COINS, ROCKET, ZIDANE = (
    "skimage/data/astronaut.png",
    "skimage/data/coffee.png",
    "skimage/data/chelsea.png",
    "skimage/data/coins.png",
    "skimage/data/rocket.jpg",
    "ultralytics/assets/zidane.jpg",
)


def main(labels: Path, others: Path, out: Path) -> None:
    """Make all of them, JPEGs of some 100 kB."""
    saved(objects(Results(labels)), out / "objects.jpg")
    saved(demo(Results(labels)), out / "demo.jpg")
    saved(levels(Results(labels)), out / "levels.jpg")
    with TemporaryDirectory() as work:
        saved(exported(Results(labels), Path(work)), out / "export.jpg")
        saved(report([labels, others], Path(work) / "page"), out / "report.jpg")


def objects(results: Results) -> Pixels:
    """Three images in a row; each is followed by the same image with its whole objects."""
    row = []
    for key in (ASTRONAUT, COINS, ROCKET):
        result = results.read(key)
        image = original_image(results, key, result)
        wholes = [
            annotation
            for annotation in at_level(result.annotations, "whole")
            if annotation["area"] >= SMALL * image.shape[0] * image.shape[1]
        ]
        row += [image, overlay(image, wholes, fill=0.6)]
    return stacked([row], 1800)


def at_level(annotations: Sequence[Annotation], level: Level) -> list[Annotation]:
    """The annotations of one level of the image's tree of masks."""
    scores = [float(annotation["predicted_iou"]) for annotation in annotations]
    levels = levels_of([annotation["segmentation"] for annotation in annotations], scores)
    return [a for a, its in zip(annotations, levels, strict=True) if its == level]


def demo(results: Results) -> Pixels:
    """Images with all of their masks, side by side."""
    row = []
    for key in (ASTRONAUT, COFFEE, CAT, ROCKET):
        result = results.read(key)
        row.append(overlay(original_image(results, key, result), result.annotations))
    return stacked([row], 1674)


def levels(results: Results) -> Pixels:
    """Images with their objects, parts and subparts, side by side."""
    rows = []
    for key in (COFFEE, ZIDANE, ROCKET):
        result = results.read(key)
        image = original_image(results, key, result)
        rows.append([overlay(image, at_level(result.annotations, level)) for level in LEVELS])
    return stacked(rows, 900)


def exported(results: Results, work: Path) -> Pixels:
    """An image with its masks as they are, and as read from COCO, panoptic PNGs and YOLO."""
    image = original_image(results, COFFEE, results.read(COFFEE))
    readers: dict[str, Callable[[Path, Pixels], Pixels]] = {
        "coco": from_coco,
        "panoptic": from_panoptic,
        "yolo-seg": from_yolo,
    }
    seen = [overlay(image, results.read(COFFEE).annotations)]
    for to, read in readers.items():
        export(results.root, to, work / to)
        seen.append(read(work / to, image))
    return stacked([seen[:2], seen[2:]], 760)


def from_coco(home: Path, photo: Pixels) -> Pixels:
    """Draw what pycocotools reads."""
    coco = COCO(home / "annotations" / "instances_default.json")
    (image,) = (image for image in coco.dataset["images"] if image["file_name"] == COFFEE)
    rows = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
    records: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        code = coco.annToRLE(row)
        code["counts"] = (
            code["counts"] if isinstance(code["counts"], str) else code["counts"].decode()
        )
        records.append({"id": number, "segmentation": code, "area": row["area"]})
    return overlay(photo, records)


def from_panoptic(home: Path, photo: Pixels) -> Pixels:
    """Draw the ids of the panoptic PNG as colours."""
    rgb = np.asarray(Image.open((home / "panoptic" / COFFEE).with_suffix(".png"))).astype(int)
    ids = rgb @ [1, 256, 65536]
    return np.where(ids[..., None] > 0, palette()[ids - 1], photo).astype(np.uint8)


def from_yolo(home: Path, photo: Pixels) -> Pixels:
    """Draw YOLO's outlines over the image."""
    drawn, (height, width) = photo.copy(), photo.shape[:2]
    lines = (home / "labels" / COFFEE).with_suffix(".txt").read_text().splitlines()
    for number, line in enumerate(lines):
        corners = np.array(line.split()[1:], float).reshape(-1, 2) * [width, height]
        cv2.polylines(drawn, [corners.astype(np.int32)], True, palette()[number].tolist(), 2)
    return drawn


def report(folders: Sequence[Path], home: Path) -> Pixels:
    """Screenshots of the report: two samplers side by side, one mask selected."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1360, "height": 830}, device_scale_factor=1)
        page.goto(write_report(folders, home).as_uri())
        page.wait_for_timeout(1000)
        page.screenshot(path=home / "grid.png")
        page.locator("#grid a").filter(has_text="coffee").click()
        page.wait_for_timeout(1000)
        page.locator("#list button").nth(2).focus()  # the inside of the cup
        page.wait_for_timeout(500)
        page.screenshot(path=home / "viewer.png")
        browser.close()
    seen = [
        np.asarray(Image.open(home / f"{name}.png").convert("RGB")) for name in ("grid", "viewer")
    ]
    return stacked([[one] for one in seen], 800)


def stacked(rows: Sequence[Sequence[Pixels]], width: int) -> Pixels:
    """Put pictures into rows of equal width, each row of one height, on white."""
    lines = []
    for row in rows:
        shapes = [one.shape[1] / one.shape[0] for one in row]
        height = round((width - GAP * (len(row) - 1)) / sum(shapes))
        line, at = np.full((height, width, 3), 255, np.uint8), 0
        for one, shape in zip(row, shapes, strict=True):
            across = min(round(height * shape), width - at)
            image = Image.fromarray(one).resize((across, height), Image.Resampling.LANCZOS)
            line[:, at : at + across] = np.asarray(image)
            at += across + GAP
        lines += [line, np.full((GAP, width, 3), 255, np.uint8)]
    return np.concatenate(lines[:-1])


def saved(pixels: Pixels, path: Path) -> None:
    """Write a JPEG."""
    Image.fromarray(pixels).save(path, quality=82, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
