"""The report: a static HTML page to look at the masks of each image; it needs no server.

OUT/index.html      the page: styles, script and one line per image
OUT/report.json     its tables as JSON
OUT/thumbs/N.jpg    image N with its whole objects (or the level that the results were limited to),
                    small; N.all.jpg: with all masks
OUT/photos/N.jpg    image N, at most PREVIEW px
OUT/data/N.js       the masks of image N as COCO run-length codes; a script, since pages opened from
                    disk may not fetch files
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from everything.config import Level
from everything.core.file_names import as_text, printable
from everything.core.stage_timer import STAGES
from everything.errors import ImageError, InputError, StoreError
from everything.io.results.categories import Category
from everything.io.results.levels import level_of_all, levels_in
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.original_image import original_image
from everything.io.results.reader import Result, Results
from everything.io.storage.locations import Location, Url, located
from everything.io.storage.output_folder import OutputFolder
from everything.masks.drawing import PALETTE, overlay, palette
from everything.report.mask_data import script_rows

PREVIEW, THUMB = 1280, 360  # longest side, px
_MARKER = '<meta name="generator" content="everything report">'
REPORT = "report.json"
_PARTS = ("thumbs", "photos", "data")
# Files of a version that kept no list of them.
_EARLIER = re.compile(
    r"index\.html|report\.json|(thumbs|photos)/\d{6,}(\.all)?\.jpg|data/\d{6,}\.js"
)
# In this order; the last one runs the page.
_SCRIPTS = (
    *("photos", "grid", "rows", "masks", "panes", "zoom"),
    *("drawing", "list", "viewer", "sliders", "review", "review_file", "save_shown", "timing"),
)
Progress = Callable[[int, int], None]


def write_report(
    labels: Location | Sequence[Location],
    out: Path | None = None,
    *,
    photos: Location | None = None,
    limit: int | None = None,
    keep: MaskFilter | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the page of one results folder, or of several side by side.

    An image that is missing or damaged is shown as its masks alone, with the reason; one whose
    annotation file cannot be read is grey, with the reason, and listed among the failures.

    Args:
        labels: Results folders of `everything label`, or folders of SA-1B JSON files beside their
            images.
        out: Folder of the page, by default `labels/report` of a single results folder; an earlier
            report in it is replaced.
        photos: Folder of the images, if they have moved.
        limit: Only the first so many images; the page says so.
        keep: Which masks the page has; all by default.
        progress: Called with the number of images done and of all images.

    Returns:
        Path of the page.

    Raises:
        InputError: If a folder has no results.
        StoreError: If `out` holds something else or cannot be written.
    """
    folders = [labels] if isinstance(labels, Path | Url) else [located(one) for one in labels]
    results = [Results(folder, photos, keep) for folder in folders]
    home = _home(folders, out)
    keys = sorted({key for result in results for key in result.files}, key=os.fsencode)
    folder = _prepare(home)
    some = keys[:limit]
    level = _opening_level(results)
    entries = list(_entries(results, some, level, folder, progress))
    names = _names(folders)
    about = {
        "folders": [_folder(*item, entries) for item in zip(names, results, count())],
        "failures": _failures(names, results),
    }
    categories = [result.categories for result in results]
    folder.write(REPORT, json.dumps(about, indent=2).encode("ascii") + b"\n")
    folder.write("index.html", _page(about, entries, len(keys), level, categories).encode())
    folder.finish()
    return home / "index.html"


def _home(folders: Sequence[Location], out: Path | None) -> Path:
    if out is not None and folders:
        return out
    if len(folders) != 1:
        raise InputError("a report of several results folders needs --out")
    if isinstance(folders[0], Url):
        raise InputError(f"{printable(folders[0])}: not on this machine: give --out for the page")
    home = folders[0] / "report"
    if home.is_symlink():
        raise StoreError(f"{printable(home)}: a link, which is not followed: give --out")
    return home


@dataclass(frozen=True)
class _Entry:
    """What the page has of an image before it is opened; None for folders without it."""

    about: dict[str, Any]
    summaries: list[dict[str, Any] | None]
    recipes: list[dict[str, Any] | None]
    largest: float


def _prepare(home: Path) -> OutputFolder:
    """Delete the files of an earlier report; a folder with anything else is left alone."""
    folder = OutputFolder(home, "report")
    earlier: list[str] = []
    if not folder.is_empty() and not folder.is_own():
        page = home / "index.html"
        if not (page.is_file() and _MARKER in page.read_text(encoding="utf-8", errors="replace")):
            raise StoreError(f"{printable(home)}: not empty and not a report: give another --out")
        earlier = [name for name in folder.names() if _EARLIER.fullmatch(name)]
    folder.refuse_links(*_PARTS, "index.html", REPORT)
    folder.claim()
    folder.begin(earlier)
    # So that whoever opens the page of a killed run knows.
    note = f"<!doctype html>{_MARKER}<p>This report is incomplete: run the command again."
    folder.write("index.html", note.encode())
    return folder


def _opening_level(results: list[Results]) -> Level:
    """The level that the page opens with: whole objects, or what all results were limited to."""
    limits = {
        level_of_all(result, folder.keep) for folder in results for result in islice(folder, 1)
    }
    return limits.pop() if len(limits) == 1 and "all" not in limits else "whole"


def _entries(
    results: list[Results],
    keys: list[str],
    level: Level,
    to: OutputFolder,
    progress: Progress | None,
) -> Iterator[_Entry]:
    for folder in results:  # once, before the threads
        folder.load()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        made = pool.map(lambda job: _one(results, job[0], job[1], level, to), enumerate(keys))
        for done, entry in enumerate(made, 1):
            if progress is not None:
                progress(done, len(keys))
            yield entry


def _one(results: list[Results], number: int, key: str, level: Level, to: OutputFolder) -> _Entry:
    """Write the files of an image and return its entry."""
    found = [folder.read_or_leave_out(key) if key in folder.files else None for folder in results]
    first = next((result for result in found if result is not None), None)
    if first is None:
        return _unreadable(results, number, key, to)
    pixels, missing = _photo(results, key, found)
    small = _shrunk(pixels, PREVIEW)
    name = f"{number:06d}"
    if not missing:
        to.write(f"photos/{name}.jpg", _jpeg(small, quality=85))
    levels = [
        [] if result is None else levels_in(result, folder.keep)
        for folder, result in zip(results, found, strict=True)
    ]
    thumb = _shrunk(small, THUMB)
    of_first = zip(first.annotations, levels[found.index(first)], strict=True)
    opening = [mask for mask, its in of_first if its == level]
    for ending, masks in (("", opening), (".all", first.annotations)):
        drawn = overlay(thumb, masks)
        to.write(f"thumbs/{name}{ending}.jpg", _jpeg(drawn, quality=80))
    rows = script_rows(found, levels)
    script = f"everythingPhoto({number},{json.dumps(rows, separators=(',', ':'))})\n"
    to.write(f"data/{name}.js", script.encode("ascii"))
    about = {
        "name": printable(first.name),
        "height": first.size[0],
        "width": first.size[1],
        "high": small.shape[0],
        "wide": small.shape[1],
        "missing": missing,
        "reasons": [_reason(folder, key, first.name) for folder in results],
    }
    if key != first.name:
        about["annotation"] = printable(key)
    classes = {str(a["category"]) for r in found if r for a in r.annotations if a.get("category")}
    if classes:
        about["classes"] = sorted(classes)
    recipes = [result.recipe if result else None for result in found]
    summaries = [_summary(*pair) for pair in zip(results, found, strict=True)]
    return _Entry(about, summaries, recipes, _largest(found))


def _reason(folder: Results, key: str, name: str) -> str:
    """Why a folder has no masks of an image; "" if it has some."""
    return folder.failures.get(as_text(name), "") or printable(folder.unreadable.get(key, ""))


def _unreadable(results: list[Results], number: int, key: str, to: OutputFolder) -> _Entry:
    """Write the files of an image whose annotations no folder can read: it is grey."""
    reasons = [_reason(folder, key, key) for folder in results]
    high, wide = 240, 320
    grey = _jpeg(np.full((high, wide, 3), 128, np.uint8), quality=80)
    for ending in ("", ".all"):
        to.write(f"thumbs/{number:06d}{ending}.jpg", grey)
    script = f"everythingPhoto({number},{json.dumps([None] * len(results))})\n"
    to.write(f"data/{number:06d}.js", script.encode("ascii"))
    about = {"name": printable(key), "height": high, "width": wide, "high": high, "wide": wide,
             "missing": next(filter(None, reasons)), "reasons": reasons}  # fmt: skip
    nothing: list[None] = [None] * len(results)
    return _Entry(about, [*nothing], [*nothing], 1.0)


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _photo(
    results: list[Results], key: str, found: list[Result | None]
) -> tuple[NDArray[np.uint8], str]:
    """The image from the first folder that finds it, or a grey one and the reason."""
    reasons = []
    for folder, result in zip(results, found, strict=True):
        if result is not None:
            try:
                return original_image(folder, key, result, PREVIEW), ""
            except ImageError as error:
                reasons.append(printable(str(error)))
    first = next(result for result in found if result is not None)
    scale = min(1, PREVIEW / max(first.size))
    high, wide = (max(1, round(length * scale)) for length in first.size)
    return np.full((high, wide, 3), 128, np.uint8), reasons[0]


def _shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if max(pixels.shape[:2]) <= side:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.array(image)


def _summary(folder: Results, result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    source = folder.source_hash(result.name)
    return ({} if source is None else {"source": source}) | {
        "masks": len(result.annotations),
        "left_out": result.filtered_out,
        "total": round(float(result.timing.get("total", 0.0)), 5),
        "seconds": [round(value, 5) for value in result.seconds()],
    }


def _largest(found: Iterable[Result | None]) -> float:
    areas = [float(a["area"]) for result in found if result for a in result.annotations]
    return max(areas, default=1.0)


def _names(folders: Sequence[Location]) -> list[str]:
    """Short names of results folders: the last part of the path, or all of it if not unique."""
    last = [(folder.resolve() if isinstance(folder, Path) else folder).name for folder in folders]
    return [printable(n if last.count(n) == 1 else f) for n, f in zip(last, folders, strict=True)]


def _page(
    about: dict[str, Any],
    entries: list[_Entry],
    total: int,
    level: Level,
    categories: list[list[Category]],
) -> str:
    script = (
        f'"use strict";\n(() => {{\n{"".join(_asset(f"{name}.js") for name in _SCRIPTS)}}})();\n'
    )
    masks = sum(folder["masks"] for folder in about["folders"])
    note = ""
    if len(entries) < total:
        note = (
            f"This page shows the first {len(entries):,} of {total:,} images. "
            "Run `everything report` for a page of all of them."
        )
    template = _environment().get_template("report.html")
    return template.render(
        **about,
        title="Masks in " + " and ".join(folder["label"] for folder in about["folders"]),
        summary=f"{len(entries):,} image{'' if len(entries) == 1 else 's'}, {masks:,} masks",
        limit_note=note,
        left_out_note=_left_out(about["folders"]),
        index=_index(about, entries, categories) | {"level": level},
        level=level,
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(_asset("report.css")),
    )


def _left_out(folders: list[dict[str, Any]]) -> str:
    """What the options of the report left out, as a sentence."""
    counts = [
        (sum(folder[f"{what}s_left_out"] for folder in folders), shown)
        for what, shown in (("photo", "image"), ("mask", "mask"))
    ]
    parts = [f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts if n]
    return (
        f"Left out by the options of `everything report`: {' and '.join(parts)}." if parts else ""
    )


def _folder(name: str, results: Results, f: int, entries: list[_Entry]) -> dict[str, Any]:
    found = [summary for entry in entries if (summary := entry.summaries[f]) is not None]
    recipe = next((recipe for entry in entries if (recipe := entry.recipes[f])), {})
    totals = [summary["total"] for summary in found if summary["total"] > 0]
    return {
        "label": name,
        "variant": recipe.get("variant"),
        "sampler": recipe.get("sampler", {}).get("name"),
        "photos": len(found),
        "masks": sum(summary["masks"] for summary in found),
        "failed": len(results.failures),
        "unreadable": len(results.unreadable),
        "photos_left_out": len(results.left_out),
        "masks_left_out": sum(summary["left_out"] for summary in found),
        "median_seconds": statistics.median(totals) if totals else None,
    }


def _failures(names: list[str], results: list[Results]) -> list[dict[str, Any]]:
    """Failures, one for all folders in which an image failed for the same reason."""
    folders: dict[tuple[str, str], list[str]] = {}
    for name, folder in zip(names, results, strict=True):
        for photo, reason in (*folder.failures.items(), *folder.unreadable.items()):
            folders.setdefault((photo, reason), []).append(name)
    return [
        {
            "name": printable(photo),
            "reason": _without_name(printable(reason), printable(photo)),
            "folders": its,
        }
        for (photo, reason), its in folders.items()
    ]


def _without_name(reason: str, photo: str) -> str:
    """A reason without the image's path at its start, which has its own column."""
    path, mark, rest = reason.partition(f"{photo}: ")
    return rest if mark and (not path or path.endswith("/")) else reason


def _index(
    about: dict[str, Any], entries: list[_Entry], categories: list[list[Category]]
) -> dict[str, Any]:
    folders = [
        {
            "label": folder["label"],
            # So that the review of earlier labels of the same folder is not taken for theirs.
            "digest": next(
                (r["digest"] for e in entries if (r := e.recipes[f]) and "digest" in r), ""
            ),
            "categories": [{"id": one.id, "name": one.name} for one in categories[f]],
        }
        for f, folder in enumerate(about["folders"])
    ]
    return {
        "folders": folders,
        "failures": about["failures"],
        "stages": list(STAGES),
        "palette": palette(PALETTE).tobytes().hex(),
        "largest_area": max((entry.largest for entry in entries), default=1.0),
        "photos": [entry.about | {"found": entry.summaries} for entry in entries],
    }


def _environment() -> Environment:
    return Environment(loader=PackageLoader("everything.report", "page"), autoescape=True)


def _asset(name: str) -> str:
    return (files("everything.report") / "page" / name).read_text(encoding="utf-8")
