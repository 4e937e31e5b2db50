"""Which files of a results folder are this program's, so that it deletes no others."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from everything.core.file_names import as_text, printable
from everything.errors import StoreError
from everything.io.results import categories, image_folders
from everything.io.results.manifest import Manifest, is_part
from everything.io.results.prior_results import PriorResults
from everything.io.results.result_document import read_document
from everything.io.results.shards import FORMS, Shard
from everything.io.storage.ownership import MARKER, header, kind_of
from everything.io.storage.storage import Storage

RECIPE = "recipe.yaml"
DIGEST = "# digest: "
_FOLDERS = ("annotations", "label_maps", "manifest", "attempts")
_FILES = ("ledger.jsonl", "errors.jsonl", RECIPE)
_ALL = (*_FOLDERS, *_FILES, categories.FILE)
_UNDER_MANIFEST = ("manifest/_job.json", image_folders.FILE)
_SHARD = re.compile(r"annotations/[0-9a-f]{32}\.(\w+)")
_NOTE = re.compile(r"attempts/[0-9a-f]{32}\.json")
_log = logging.getLogger(__name__)


def claim(folder: Storage) -> None:
    """Check that results may be written into a folder, and mark it.

    Besides results it may hold files of others, such as the images, under other names. Nothing is
    changed before all is checked.

    Raises:
        StoreError: It has files under the names of results that this program did not write, links
            in their place, or is an export or the like.
    """
    if check_claim(folder):
        return
    folder.create()
    folder.write(MARKER, [header("results")])


def check_claim(folder: Storage) -> bool:
    """Tell whether a folder is marked as one of results; raises StoreError as `claim` does."""
    folder.refuse_links(MARKER, *_ALL)
    kind = kind_of(folder.read(MARKER), folder.root)
    if kind == "results":
        folder.refuse_links(".partial", ".lock")
        return True
    where = printable(folder.root)
    if kind not in (None, "images"):
        raise StoreError(f"{where}: holds a {kind}, no results: give another --out")
    # Results may lie beside the images, whose marker they replace.
    names = _ALL if kind else (MARKER, *_ALL)
    taken = [name for name in names if folder.holds(name)]
    if taken and not _is_older(folder):
        raise StoreError(
            f"{where}: {' and '.join(taken[:3])} there were not written by this program and are "
            "left as they are: give another --out"
        )
    folder.refuse_foreign_locks()
    return False


def _is_older(folder: Storage) -> bool:
    """Tell whether a version of the program that left no marker wrote the results of a folder."""
    recipe = folder.read(RECIPE) or b""
    if re.search(rb"^# digest: [0-9a-f]{64}$", recipe, re.MULTILINE) is None:
        return False
    listed = folder.holds("ledger.jsonl") or any(map(is_part, folder.list("manifest", ".parquet")))
    if listed or folder.stamp("manifest/_job.json") is not None:
        return True
    # Results that were copied without their manifest.
    names = folder.names("annotations")
    return next((_is_result(folder, name) for name in names), True)


def remove_results(folder: Storage) -> None:
    """Delete the results of a folder, one file after the other.

    What others wrote is left, and its number logged. The manifest, which tells whose a file is, is
    deleted after what it lists, so that a killed removal can be repeated.
    """
    known = Manifest(folder).known("")
    kept: list[str] = []

    def ours(names: Iterator[str], is_ours: Any) -> Iterator[str]:
        for name in names:
            if is_ours(name):
                yield name
            else:
                kept.append(name)

    folder.remove(ours(folder.names("label_maps"), lambda name: _is_label_map(folder, name, known)))
    folder.remove(
        ours(folder.names("annotations"), lambda name: _is_annotation(folder, name, known))
    )
    folder.remove(ours(folder.names("attempts"), _NOTE.fullmatch))
    folder.remove(
        ours(folder.names("manifest"), lambda name: is_part(name) or name in _UNDER_MANIFEST)
    )
    categories.remove(folder)
    folder.remove(_FILES)
    if kept:
        _log.warning(
            "%s: %d files that this program did not write were kept, such as %s",
            printable(folder.root), len(kept), printable(kept[0]),
        )  # fmt: skip


def _is_label_map(folder: Storage, name: str, known: PriorResults) -> bool:
    image = name.removeprefix("label_maps/").removesuffix(".png")
    if not name.endswith(".png"):
        return False
    return known.get(as_text(image)) is not None or _is_result(folder, f"annotations/{image}.json")


def _is_annotation(folder: Storage, name: str, known: PriorResults) -> bool:
    if name in known.shards:
        return True
    prior = known.get(as_text(name.removeprefix("annotations/").removesuffix(".json")))
    if prior is not None and prior.stamp is not None and prior.stamp == folder.stamp(name):
        return name.endswith(".json")
    return _is_result(folder, name)


def _is_result(folder: Storage, name: str) -> bool:
    """Tell by its content whether this program wrote a file in annotations/."""
    shard = _SHARD.fullmatch(name)
    if shard is not None and shard[1] in FORMS:
        try:
            return len(Shard(shard[1], folder.read(name) or b"")) > 0
        except ValueError:
            return False
    if not name.endswith(".json"):
        return False
    document = read_document(folder.read(name) or b"")
    return document is not None and isinstance(document["recipe"].get("digest"), str)
