"""What two runs of a job must have in common, whatever happened to one of them.

Compared byte for byte: recipe.yaml, label maps, annotations up to their `timing`; of the manifest
every column but the times, the attempts, where the results are, and the size and date of files
with times in them; of errors.jsonl the names and reasons. Nothing else may be there but the lock.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from everything.io.results.result_document import read_document

_TIMES = {"started", "finished", "attempt", "bytes", "mtime_ns", "host"}
# The way from the results folder to the images, and what is not known where a row was lost and
# restored from the result.
_PLACES = {"relative", "source_hash"}
Tree = dict[str, Any]


def tree(out: Path) -> Tree:
    """Return what is compared of a folder in which a job has ended."""
    found: Tree = dict(_results(out))
    for name, content in files(out):
        if name == "recipe.yaml":
            found[name] = content
        elif name == "errors.jsonl":
            lines = [json.loads(line) for line in content.splitlines()]
            found[name] = [(line["name"], line["error"]) for line in lines]
        elif name == "manifest/part-00000.parquet":
            rows = pq.read_table(io.BytesIO(content)).to_pylist()
            found[name] = [_timeless(row) for row in rows]
        else:
            known = (".everything.jsonl", ".lock", "manifest/_job.json")
            assert name in known or name.startswith(("annotations/", "label_maps/")), name
    return found


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v for k, v in row.items() if k not in _TIMES | _PLACES and not k.endswith("_seconds")
    }


def files(out: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(out.rglob("*")):
        if path.is_file():
            yield path.relative_to(out).as_posix(), path.read_bytes()


def _results(out: Path) -> Iterator[tuple[str, bytes]]:
    for name, content in files(out):
        if name.startswith("annotations/"):
            yield name, content.split(b',"timing":')[0]
        elif name.startswith("label_maps/"):
            yield name, content


def check_whole(out: Path) -> int:
    """Check that every file that is there, whatever was done to the job, is whole; return how
    many results there are."""
    count = 0
    for name, content in files(out):
        if name.startswith("annotations/"):
            assert read_document(content), name
            count += 1
        elif name.startswith("label_maps/"):
            with Image.open(io.BytesIO(content)) as image:
                image.load()
        elif name.endswith(".parquet"):
            pq.read_table(io.BytesIO(content))
        elif name == "recipe.yaml":
            assert b"\nversion:" in content
        elif name == "manifest/_job.json":
            json.loads(content)
    return count
