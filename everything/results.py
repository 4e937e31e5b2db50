"""Results read back: what `everything label` wrote, or a folder in SA-1B's format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from everything.clock import STAGES
from everything.errors import InputError
from everything.names import as_text, is_inside, shown
from everything.view import Size

Annotation = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """The masks of one photo.

    name: of the photo, relative. size: (H, W) px. annotations: SA-1B's records. timing: seconds
    per stage and counts, empty in files that are not ours. recipe: empty likewise.
    """

    name: str
    size: Size
    annotations: list[Annotation]
    timing: dict[str, float] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    def seconds(self) -> list[float]:
        """Return the seconds of every stage, in the order of clock.STAGES."""
        return [float(self.timing.get(stage, 0.0)) for stage in STAGES]


class Results:
    """A folder of annotation files: ours (annotations/**/NAME.json) or SA-1B's (**/*.json).

    photos: where the photos are, if they are neither where the manifest says nor beside the
    annotations. Raises InputError if the folder does not exist.
    """

    def __init__(self, root: Path, photos: Path | None = None) -> None:
        if not root.is_dir():
            raise InputError(f"{shown(root)}: no such folder: give what `everything label` wrote")
        self.root = root
        self._photos = photos
        inner = root / "annotations"
        self._home = inner if inner.is_dir() else root

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every annotation file by its path relative to the folder, without `.json`, sorted."""
        found = {
            file.relative_to(self._home).as_posix().removesuffix(".json"): file
            for file in self._home.rglob("*.json")
        }
        return {key: found[key] for key in sorted(found, key=os.fsencode)}

    def load(self) -> None:
        """Read the list of files, the manifest and the failures now, for use by many threads."""
        _ = (self.files, self._folders, self.failures)

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Result]:
        return (self.read(key) for key in self.files)

    def read(self, key: str) -> Result:
        """Return one result; raises InputError if the file is not in SA-1B's format."""
        file = self.files[key]
        try:
            return _parsed(json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"not an annotation file ({type(error).__name__}: {error})"
            raise InputError(f"{shown(file)}: {shown(reason)}: label the photo again") from error

    def photo(self, key: str, name: str) -> Path | None:
        """Return where the photo of a result is, or None if it is in none of the known places."""
        if not is_inside(name):
            return None  # an annotation file must not make us show any file of the machine
        homes = [self._photos] if self._photos else []
        if folder := self._folders.get(as_text(name)):
            homes.append(Path(folder))
        homes += [self.files[key].parent, self._home]
        return next((home / name for home in homes if (home / name).is_file()), None)

    @cached_property
    def _folders(self) -> dict[str, str]:
        """The folder below which each photo was found, by name, from the manifest."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folders: dict[str, str] = {}
        for file in sorted((self.root / "manifest").glob("*.parquet")):
            try:
                rows = pq.read_table(file)
            except (OSError, pa.ArrowException) as error:
                raise InputError(
                    f"{shown(file)}: not a manifest ({shown(str(error))}): run the job again"
                ) from error
            if {"name", "folder"} <= set(rows.column_names):
                names, homes = rows["name"].to_pylist(), rows["folder"].to_pylist()
                folders |= {name: home for name, home in zip(names, homes, strict=True) if home}
        return folders

    @cached_property
    def failures(self) -> dict[str, str]:
        """The reason of each photo that failed and has no result, by name."""
        file = self.root / "errors.jsonl"
        reasons: dict[str, str] = {}
        for line in file.read_bytes().splitlines() if file.is_file() else []:
            try:
                row = json.loads(line)
                reasons[str(row["name"])] = str(row["error"])
            except (ValueError, TypeError, KeyError):
                continue  # the line that a kill has cut: its photo is tried again
        return {name: reason for name, reason in reasons.items() if name not in self.files}


def _parsed(content: dict[str, Any]) -> Result:
    image = content["image"]
    annotations = content["annotations"]
    for annotation in annotations:
        counts = annotation["segmentation"]["counts"]
        if not isinstance(counts, str):
            raise TypeError("counts must be COCO's compressed text")
    return Result(
        name=str(image["file_name"]),
        size=(int(image["height"]), int(image["width"])),
        annotations=annotations,
        timing=content.get("timing") or {},
        recipe=content.get("recipe") or {},
    )
