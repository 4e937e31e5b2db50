"""Make the pictures of the README and the docs again: `python docs/pictures.py docs`.

Labels the demo images with the bundled model (two minutes). report.jpg needs playwright and
Chromium. bench.png and recall.png show times and come from `everything bench` (docs/bench.md).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from everything.core.mask_hierarchy import LEVELS, at_level
from everything.export.run import export
from everything.io.results.original_image import original_image
from everything.io.results.reader import Results
from everything.masks.drawing import overlay, palette
from everything.report.build import write_report

Pixels = NDArray[np.uint8]
GAP = 6  # px
SMALL = 0.004  # share of the image; smaller objects are left out of the README's picture
ASTRONAUT, COFFEE, CAT, MOTORCYCLE, ROCKET, ZIDANE = (
    "skimage/data/astronaut.png",
    "skimage/data/coffee.png",
    "skimage/data/chelsea.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/rocket.jpg",
    "ultralytics/assets/zidane.jpg",
)


def main(out: Path) -> None:
    """Write all pictures into a folder, as JPEGs of 80 to 350 kB."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        labels, others = work / "labels", work / "others"
        everything("label", "--demo", "--no-preview", "--out", labels)
        everything("label", "--demo", "--no-preview", "--sampler", "all-instance", "--out", others)
        everything(
            "compare", "--demo", "--limit", 4, "--variants", "ucm-lite0", "--out", work / "compare"
        )
        results = Results(labels)
        saved(objects(results), out / "objects.jpg")
        saved(demo(results), out / "demo.jpg")
        saved(levels(results), out / "levels.jpg")
        saved(exported(results, work), out / "export.jpg")
        for folder in (labels, others):
            remove_times(folder)
        saved(report([labels, others], work / "page"), out / "report.jpg")
        shutil.copy(work / "compare" / "ucm-lite0.jpg", out / "samplers.jpg")


def everything(*arguments: object) -> None:
    """Run a command of this program, with its tables and progress out of the way."""
    command = [sys.executable, "-m", "everything", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def objects(results: Results) -> Pixels:
    """Draw three images in a row, each followed by the same image with its whole objects."""
    row = []
    for key in (CAT, ASTRONAUT, MOTORCYCLE):
        result = results.read(key)
        image = original_image(results, key, result)
        wholes = [
            annotation
            for annotation in at_level(result.annotations, "whole")
            if annotation["area"] >= SMALL * image.shape[0] * image.shape[1]
        ]
        row += [image, overlay(image, wholes, fill=0.6)]
    return stacked([row], 1800)


def demo(results: Results) -> Pixels:
    """Draw four images with all of their masks, side by side."""
    row = []
    for key in (ASTRONAUT, COFFEE, CAT, ROCKET):
        result = results.read(key)
        row.append(overlay(original_image(results, key, result), result.annotations))
    return stacked([row], 1674)


def levels(results: Results) -> Pixels:
    """Draw three images with their objects, parts and subparts, side by side."""
    rows = []
    for key in (COFFEE, ZIDANE, ROCKET):
        result = results.read(key)
        image = original_image(results, key, result)
        rows.append([overlay(image, at_level(result.annotations, level)) for level in LEVELS])
    return stacked(rows, 900)


def exported(results: Results, work: Path) -> Pixels:
    """Draw an image with its masks as they are, and as read from COCO, panoptic PNGs and YOLO."""
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


def from_coco(home: Path, image: Pixels) -> Pixels:
    """Draw what pycocotools reads."""
    with redirect_stdout(StringIO()):  # pycocotools prints its progress
        coco = COCO(home / "annotations" / "instances_default.json")
    (entry,) = (entry for entry in coco.dataset["images"] if entry["file_name"] == COFFEE)
    rows = coco.loadAnns(coco.getAnnIds(imgIds=entry["id"]))
    records: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        code = coco.annToRLE(row)
        code["counts"] = (
            code["counts"] if isinstance(code["counts"], str) else code["counts"].decode()
        )
        records.append({"id": number, "segmentation": code, "area": row["area"]})
    return overlay(image, records)


def from_panoptic(home: Path, image: Pixels) -> Pixels:
    """Draw the segment IDs of the panoptic PNG as colours."""
    rgb = np.asarray(Image.open((home / "panoptic" / COFFEE).with_suffix(".png"))).astype(int)
    ids = rgb @ [1, 256, 65536]
    return np.where(ids[..., None] > 0, palette()[ids - 1], image).astype(np.uint8)


def from_yolo(home: Path, image: Pixels) -> Pixels:
    """Draw YOLO's outlines over the image."""
    drawn, (height, width) = image.copy(), image.shape[:2]
    lines = (home / "labels" / COFFEE).with_suffix(".txt").read_text().splitlines()
    for number, line in enumerate(lines):
        corners = np.array(line.split()[1:], float).reshape(-1, 2) * [width, height]
        cv2.polylines(drawn, [corners.astype(np.int32)], True, palette()[number].tolist(), 2)
    return drawn


def remove_times(labels: Path) -> None:
    """Remove the seconds from results: they are those of this machine, as busy as it is."""
    for path in (labels / "annotations").rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["timing"]
        path.write_text(json.dumps(content), encoding="utf-8")


def report(folders: Sequence[Path], home: Path) -> Pixels:
    """Take screenshots of the report: two samplers side by side, one mask selected."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1480, "height": 860}, device_scale_factor=1)
        page.goto(write_report(folders, home).as_uri())
        page.wait_for_timeout(1000)
        page.screenshot(path=home / "grid.png")
        page.locator("#grid a").filter(has_text="coffee").click()
        page.wait_for_timeout(1000)
        page.locator("#list tbody button").nth(2).focus()  # the saucer
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
    main(Path(sys.argv[1]))
