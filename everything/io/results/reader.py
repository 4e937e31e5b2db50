"""Reads results in every supported form.

These are the results of `everything label`, one JSON file per image or shards of many, on disk or
in a bucket, also while the job is running; and folders in SA-1B's format, with or without images.
"""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from everything.core.file_names import as_text, is_inside, printable
from everything.core.geometry import Size
from everything.core.sa1b import Annotation, check_annotations, check_timing, size_of
from everything.core.stage_timer import STAGES
from everything.errors import InputError, reason_of
from everything.io.images.sources import Source
from everything.io.results.categories import Category, merged, read_categories
from everything.io.results.image_folders import absolute, remember, remembered
from everything.io.results.manifest import Manifest
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.review import ReviewFit, fit_review
from everything.io.results.shards import FORMS, Shard
from everything.io.results.writer import folder_at
from everything.io.storage.locations import Location, Url, filesystem, is_file, with_retries
from everything.io.storage.ownership import MARKER

_log = logging.getLogger(__name__)
_INVALID = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_OPEN = 4  # shards kept in memory; results are read in the order of their shards


@dataclass(frozen=True)
class Result:
    """The annotations of one image.

    Attributes:
        name: Relative name of the image.
        size: (H, W) of the image in px.
        annotations: SA-1B's records.
        timing: Seconds per stage, and counts; empty if another program wrote the file.
        recipe: The recipe that was used; empty if another program wrote the file.
        notes: What reading the image had to assume.
        filtered_out: Number of annotations that a filter of the reader left out.
    """

    name: str
    size: Size
    annotations: list[Annotation]
    timing: dict[str, float] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    filtered_out: int = 0

    def seconds(self) -> list[float]:
        """Return the seconds of every stage, in the order of stage_timer.STAGES."""
        return [float(self.timing.get(stage, 0.0)) for stage in STAGES]


class Results:
    """The results in a folder or bucket.

    They are those of `everything label` (annotations/**) or in SA-1B's format (**/*.json).

    Args:
        root: The folder or bucket.
        images: The folder of the images, if they are neither where the manifest says nor beside
            the annotations.
        keep: Which masks are returned.

    Attributes:
        unreadable: Why annotation files were left out so far, by key (by name for a shard of which
            nothing can be read): edited, damaged, or of another format.

    Raises:
        InputError: There are no results.
    """

    def __init__(
        self, root: Location, images: Location | None = None, keep: MaskFilter | None = None
    ) -> None:
        self.root, self._images, self.keep = root, images, keep or MaskFilter()
        self._folder = folder_at(root)
        self.unreadable: dict[str, str] = {}
        self._is_remembered = False
        self._lock, self._open = Lock(), OrderedDict[str, Shard]()
        if isinstance(root, Path) and not root.is_dir():
            raise InputError(
                f"{printable(root)}: no such folder: give the output of `everything label`"
            )
        self._home = "annotations" if self._has_annotations() else ""
        if isinstance(root, Url) and not self._home and not self._found:
            raise InputError(
                f"{printable(root)}: no results there: give the output of `everything label`"
            )

    def _has_annotations(self) -> bool:
        """Tell whether `everything label` wrote these results."""
        if isinstance(self.root, Path) and (self.root / "annotations").is_dir():
            return True
        return self._folder.stamp("recipe.yaml") is not None

    @cached_property
    def files(self) -> dict[str, str]:
        """The file with the result of each image, relative to the root, by the result's key.

        Keys are names of images, or SA-1B's file names without `.json`. They are sorted, except
        that images of one shard are consecutive. Images that a review leaves out are missing.
        """
        return {key: file for key, file in self._found.items() if key not in self.left_out}

    @property
    def left_out(self) -> frozenset[str]:
        """Keys of the images that a review leaves out."""
        return self.review.left_out if self.review else frozenset()

    @cached_property
    def review(self) -> ReviewFit | None:
        """How the filter's review, if it has one, fits these results.

        Raises:
            InputError: It does not.
        """
        review = self.keep.reviewed
        if review is None:
            return None

        def read(key: str) -> tuple[Size, list[Annotation], str | None] | None:
            try:
                result = self._parse(key)
            except InputError:  # whoever reads it for its masks counts it
                return None
            return result.size, result.annotations, self.source_hash(result.name)

        fit = fit_review(review, self._found, read, printable(str(self.root)))
        if message := fit.message(review.name):
            _log.warning(message)
        return fit

    @cached_property
    def _found(self) -> dict[str, str]:
        """The file with the result of each image by its key, those that a review leaves out too."""
        found, shards, start = dict[str, str](), set[str](), len(self._home) + bool(self._home)
        for name in self._folder.names(self._home):
            if name.endswith(".json"):
                found[name[start:].removesuffix(".json")] = name
            elif self._home and _form(name) in FORMS and "/" not in name[start:]:
                shards.add(name)
        if not self._home:
            self._check_nothing_below(found.values())
        found |= self._sharded(shards)
        keys = sorted(found, key=os.fsencode)
        first = {found[key]: key for key in reversed(keys)} if shards else {}
        if shards:
            keys.sort(key=lambda key: os.fsencode(first[found[key]]))
        return {key: found[key] for key in keys}

    def _check_nothing_below(self, files: Iterable[str]) -> None:
        """Refuse a folder of results folders, whose files would be taken for SA-1B's."""
        folders = {file.rpartition("/annotations/")[0] for file in files} - {""}
        for folder in sorted(folders):
            if self._folder.stamp(f"{folder}/recipe.yaml") is not None:
                raise InputError(
                    f"{printable(str(self.root))}: a folder above results folders: give one of "
                    f"them, such as {printable(folder)}"
                )

    def _sharded(self, shards: set[str]) -> dict[str, str]:
        """The shard with the valid result of each image, which is the one in its manifest row.

        Other shards may have results of earlier attempts.
        """
        rows = self._manifest
        of = zip(rows["name"].to_pylist(), rows["shard"].to_pylist(), strict=True)
        found = {name: shard for name, shard in of if shard in shards} if shards else {}
        for shard in sorted(shards.difference(found.values())):
            try:
                for name in self._shard(shard):
                    found.setdefault(name, shard)
            except ValueError as error:
                self.leave_out(shard, str(self._broken(shard, error)))
        return found

    @cached_property
    def categories(self) -> list[Category]:
        """The classes of imported annotations and of a review, sorted by id; `label` gives none."""
        known = read_categories(self._folder) if self._home else []
        tags = self.review.tags if self.review else ()
        return merged(known, [Category(number, tag) for number, tag in enumerate(tags, 1)])

    def load(self) -> None:
        """Read the list of files, the manifest and the failures now, before threads share them."""
        _ = (self.files, self._rows, self.failures)

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Result]:
        """Iterate over the results that can be read."""
        return (result for key in self.files if (result := self.read_or_leave_out(key)))

    def leave_out(self, key: str, reason: str) -> None:
        """Count a result that cannot be used, and log the reason, a line that names the file."""
        if key not in self.unreadable:
            self.unreadable[key] = reason
            _log.warning("%s", reason)

    def read_or_leave_out(self, key: str, is_written: bool = False) -> Result | None:
        """Return one result, or None if it cannot be read, which is counted and logged.

        Args:
            key: The result's key.
            is_written: Whether a file of the image's name is to be written; then a name that leads
                out of its folder cannot be used either.
        """
        try:
            result = self.read(key)
            if is_written and not is_inside(result.name):
                reason = "the image's name leads out of the folder: rename it"
                raise InputError(f"{self.where(key)}: {reason}")
        except InputError as error:
            self.leave_out(key, str(error))
            return None
        return result

    def read(self, key: str) -> Result:
        """Return one result.

        Raises:
            InputError: The file is not in SA-1B's format.
        """
        result = self._kept(key)
        _log.debug("%s: %d masks", printable(key), len(result.annotations))
        return result

    def _kept(self, key: str) -> Result:
        result = self._parse(key)
        if self.keep.keeps_all:
            return result
        image = self.review.images.get(key) if self.review else None
        try:
            kept = self.keep(result.annotations, image)
        except _INVALID as error:
            raise self._broken(self._found[key], error) from error
        return replace(result, annotations=kept, filtered_out=len(result.annotations) - len(kept))

    def _parse(self, key: str) -> Result:
        content = self.document(key)
        try:
            return _parsed(content)
        except _INVALID as error:
            raise self._broken(self._found[key], error) from error

    def document(self, key: str) -> Any:
        """Return the content of one result's file as it is, without a check.

        Raises:
            InputError: The file is not JSON.
        """
        file = self._found[key]
        try:
            if file.endswith(".json"):
                return json.loads(self._folder.read(file) or b"")
            return self._shard(file)[key]
        except (ValueError, LookupError, RecursionError) as error:
            raise self._broken(file, error) from error

    def where(self, key: str) -> str:
        """Return the path or URL of a result's file, for messages."""
        return printable(f"{self.root}/{self._found[key]}")

    def _broken(self, file: str, error: Exception) -> InputError:
        reason = printable(f"not an annotation file ({type(error).__name__}: {reason_of(error)})")
        return InputError(
            f"{printable(f'{self.root}/{file}')}: {reason}: correct it, or label the image again"
        )

    def _shard(self, file: str) -> Shard:
        with self._lock:
            if file not in self._open:
                self._open[file] = Shard(_form(file), self._folder.read(file) or b"")
                if len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            return self._open[file]

    def image(self, key: str, name: str) -> Source | None:
        """Return the source of a result's image, or None if it is not found.

        A remote image that the manifest names is returned without a check that it still exists.
        """
        if not is_inside(name):
            return None  # an annotation file must not expose other files of this machine
        if self._images is not None and (_is_there(source := Source(str(self._images), name))):
            self._remember()
            return source
        found = [
            source
            for source in self._listed(name)
            if isinstance(source.location, Url) or _is_there(source)
        ]
        if found:
            # Where several files are in question, that of the size which was labelled.
            return next((source for source in found if _has_size(source)), found[0])
        beside = f"{self.root}/{self._found[key]}".rpartition("/")[0]
        homes = (*map(str, self._folders), beside, f"{self.root}/{self._home}".rstrip("/"))
        return next((s for home in homes if _is_there(s := Source(home, name))), None)

    def source_hash(self, name: str) -> str | None:
        """Return the hash of an image's content when it was labelled, as 16 hexadecimal digits.

        None if it is unknown, as of annotations of other tools.
        """
        row = self._rows.get(as_text(name))
        found = None if row is None else self._manifest["source_hash"][row].as_py()
        return None if found is None else f"{found % 2**64:016x}"

    def _listed(self, name: str) -> Iterator[Source]:
        """Where an image is by the manifest: relative to the results, and as it was."""
        row = self._rows.get(as_text(name))
        if row is None:
            return
        columns = ("folder", "source_bytes", "file", "start", "relative")
        folder, size, file, start, path = (self._manifest[c][row].as_py() for c in columns)
        if path:
            moved = absolute(path, self.root)
            yield Source(folder, name, size, moved, start) if file else Source(moved, name, size)
        if folder or file:
            yield Source(folder, name, size, file, start)

    @cached_property
    def _folders(self) -> list[Location]:
        return remembered(self._folder) if self._home else []

    def _remember(self) -> None:
        """Record where the images are, so that they need not be given again."""
        if self._is_remembered or self._images is None or not self._home:
            return
        self._is_remembered = True
        if self._folder.stamp(MARKER) is not None:
            remember(self._folder, self._images)

    @cached_property
    def _manifest(self) -> Any:
        return Manifest(self._folder).table().combine_chunks()

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._manifest["name"].to_pylist())}

    @cached_property
    def failures(self) -> dict[str, str]:
        """The error of each image that failed and has no result, by name."""
        columns = ("name", "status", "error")
        rows = zip(*(self._manifest[column].to_pylist() for column in columns), strict=True)
        reasons = {name: error for name, status, error in rows if status == "failed"}
        return {name: reason for name, reason in reasons.items() if name not in self._found}


def _form(file: str) -> str:
    return file.rpartition(".")[2]


def _is_there(source: Source) -> bool:
    place = source.location
    if isinstance(place, Path):
        return is_file(place)
    files, path = filesystem(place)
    there: bool = with_retries(lambda: files.exists(path))
    return there


def _has_size(source: Source) -> bool:
    try:
        return isinstance(source.location, Url) or Path(source.location).stat().st_size in (
            source.size, None
        )  # fmt: skip
    except OSError:
        return False


def _parsed(content: dict[str, Any]) -> Result:
    size, annotations = size_of(content["image"]), content["annotations"]
    check_annotations(annotations, size)
    timing, recipe = content.get("timing") or {}, content.get("recipe") or {}
    check_timing(timing, (*STAGES, "total"))
    if not isinstance(recipe, dict) or not isinstance(recipe.get("sampler", {}), dict):
        raise TypeError("recipe must be a mapping")
    notes = tuple(str(note) for note in content.get("notes") or ())
    return Result(str(content["image"]["file_name"]), size, annotations, timing, recipe, notes)
