"""The layout of a results folder, and what makes a result valid.

DIR/recipe.yaml            the recipe of all results in DIR, and its digest
DIR/annotations/NAME.json  the masks of one image: SA-1B's fields, then `recipe`, `notes` if reading
                           the image required an assumption, and `timing`
DIR/annotations/*.parquet  or *.tar: shards of many images, if the recipe asks for them
DIR/label_maps/NAME.png    the masks without overlaps, uint16, if the recipe asks for them
DIR/manifest/*.parquet     one row per image; while a job runs also DIR/ledger.jsonl
DIR/errors.jsonl           one line per image that failed
DIR/categories.json        the classes, if the annotations have any
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from everything.config import Recipe
from everything.core.file_names import image_id, printable
from everything.core.safe_yaml import parse_yaml
from everything.errors import ConfigError, InputError, StoreError
from everything.io.results.categories import add_categories, sampler_categories
from everything.io.results.own_files import DIGEST, RECIPE, check_claim, claim, remove_results
from everything.io.results.result_document import read_document
from everything.io.results.shards import Shard, pack
from everything.io.storage.local import Folder
from everything.io.storage.locations import Location, Url
from everything.io.storage.object_store import ObjectStore
from everything.io.storage.storage import Stamp, Storage

_WAYS_OUT = ", --overwrite to replace them, or --continue-anyway to keep them"
_Document = dict[str, Any]
_log = logging.getLogger(__name__)


def folder_at(root: Location, permit: str = "") -> Storage:
    """Return the results folder at a location.

    Args:
        root: A folder on disk or the URL of one in an object store.
        permit: The permit of the job on whose behalf this process writes.

    Raises:
        InputError: The URL cannot be written to, or the package for it is not installed.
    """
    if not isinstance(root, Url):
        return Folder(root)
    if root.startswith("http"):
        raise InputError(f"{printable(root)}: results cannot be written over HTTP: give a bucket")
    return ObjectStore(root, permit)


class Store:
    """The results of one recipe in one folder, on disk or in an object store.

    Args:
        root: The folder.
        recipe: The recipe of its results.
        permit: The permit of the job that has the folder open in another process.
    """

    def __init__(self, root: Location, recipe: Recipe, permit: str = "") -> None:
        self.folder = folder_at(root, permit)
        self.recipe = recipe
        self.digest = recipe.digest
        self.is_buffering = False
        self._is_mixed = False
        self._buffered: dict[str, bytes] = {}
        self._about_recipe = _json(recipe.model_dump(mode="json") | {"digest": self.digest})

    def buffer_results(self) -> None:
        """Collect results for shards until `flush`, instead of one shard for each image."""
        self.is_buffering = True

    def must_be_shared(self) -> None:
        """Raise ConfigError if other processes cannot see this folder."""
        if not self.folder.is_shared:
            where = printable(self.folder.root)
            raise ConfigError(f"{where}: visible to one process only: give a folder or a bucket")

    @contextmanager
    def opened(
        self, overwrite: bool = False, continue_anyway: bool = False, ways_out: str = _WAYS_OUT
    ) -> Iterator[None]:
        """Lock the folder for one job, delete leftovers and write its recipe.

        Args:
            overwrite: Delete existing results first; files of others are kept.
            continue_anyway: Accept results of another recipe as done, and log what differs.
            ways_out: What to do about results of another recipe besides giving another --out.

        Raises:
            StoreError: The folder has files of others under the names of results, another job is
                writing there, it has results of another recipe, or it cannot be written. Nothing
                there has been changed.
        """
        claim(self.folder)
        self.folder.create()
        with self.folder.locked():
            if not overwrite:
                self._check_recipe(continue_anyway, ways_out)
            self.folder.clean()
            if overwrite:
                remove_results(self.folder)
            self._write_recipe()
            yield
            self.folder.clean()

    def check(self, overwrite: bool = False, continue_anyway: bool = False) -> None:
        """Raise StoreError if `opened` would refuse the folder as it is; nothing is written."""
        check_claim(self.folder)
        if not overwrite:
            self._check_recipe(continue_anyway, _WAYS_OUT)

    def put(
        self,
        name: str,
        size: tuple[int, int],
        annotations: Sequence[Mapping[str, Any]],
        timing: Callable[[], Mapping[str, float]],
        notes: Sequence[str] = (),
    ) -> Stamp:
        """Write the result of an image; one that belongs in a shard is written by `flush`.

        Equal masks give equal bytes, except for the timing.

        Args:
            name: Name of the image.
            size: (height, width) of the image in px.
            annotations: SA-1B's records.
            timing: Returns the timing; called after everything else is written, so that it can
                include the time of writing.
            notes: The notes of the image's row, which a kill can lose.

        Returns:
            The stamp of the result.

        Raises:
            ImageError: Only this name cannot be written.
            StoreError: Nothing can be written.
        """
        about = {
            "image_id": image_id(name),
            "width": size[1],
            "height": size[0],
            "file_name": name,
        }
        result = _json({"image": about, "annotations": annotations})[:-1]
        noted = b',"notes":' + _json(list(notes)) if notes else b""

        def content() -> Iterator[bytes]:
            yield result + b',"recipe":' + self._about_recipe + noted + b',"timing":'
            yield _json(timing()) + b"}\n"

        if self.recipe.output.form == "json":
            return self.folder.write(_annotations(name), content())
        self._buffered[name] = b"".join(content())
        return Stamp(len(self._buffered[name]), 0)

    def flush(self) -> tuple[str, Stamp] | None:
        """Write the collected results as one shard, and return its name and stamp."""
        if not self._buffered:
            return None
        form, contents = self.recipe.output.form, self._buffered
        self._buffered = {}
        names = "\0".join(contents).encode("utf-8", "surrogateescape")
        name = f"annotations/{hashlib.sha256(names).hexdigest()[:32]}.{form}"
        return name, self.folder.write(name, [pack(form, contents)])

    def shards(self, known: Container[str]) -> Iterator[tuple[str, Stamp, list[_Document]]]:
        """Yield name, stamp and complete documents of this recipe of each shard not in `known`."""
        form = self.recipe.output.form
        for name in self.folder.list("annotations", f".{form}"):
            stamp = self.folder.stamp(name)
            if name not in known and stamp is not None:
                with suppress(ValueError):
                    found = list(Shard(form, self.folder.read(name) or b"").values())
                    yield name, stamp, [d for d in found if self._accepts(d)]

    def put_label_map(self, name: str, label_map: NDArray[np.uint16]) -> None:
        """Write a label map (masks without overlaps), uint16 (H, W); raises as `put` does."""
        buffer = io.BytesIO()
        Image.fromarray(label_map).save(buffer, "PNG")
        self.folder.write(_label_map(name), [buffer.getvalue()])

    def get(self, name: str) -> _Document | None:
        """Return the result of an image if it is complete and of this recipe, else None."""
        document = read_document(self.folder.read(_annotations(name)) or b"")
        if document is None or not self._accepts(document) or _is_of_another(document, name):
            return None
        return document if self._has_label_map(name) else None

    @property
    def accepted(self) -> str | None:
        """The digest that results must have to count as done; None if any will do."""
        return None if self._is_mixed else self.digest

    def _accepts(self, document: _Document) -> bool:
        return self.accepted in (None, document["recipe"].get("digest"))

    def cache_listing(self) -> None:
        """List the folder once for `stamp` and `is_untouched`, if that is faster."""
        self.folder.cache_listing("annotations", "label_maps")

    def discard(self, name: str, written: Stamp | None) -> None:
        """Remove the result of an image that is to be processed again, if there is one.

        It is deleted if it is as the program wrote it; if it was edited, or is somebody else's, it
        is set aside.

        Args:
            name: Name of the image.
            written: The stamp of the result by the manifest; None if it has none.
        """
        file = _annotations(name)
        document = None if written else read_document(self.folder.read(file) or b"")
        if document is not None and _is_of_another(document, name):
            return  # writing this one's will fail with the reason
        if self.folder.stamp(file) == written or (document and "digest" in document["recipe"]):
            self.folder.delete(file)
        elif self.folder.stamp(file) is not None:
            aside = self.folder.set_aside(file)
            _log.warning(
                "%s: not as this program wrote it: set aside as %s",
                printable(file), printable(aside),
            )  # fmt: skip

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of an image's result, or None if there is none."""
        return self.folder.stamp(_annotations(name))

    def is_untouched(self, name: str, stamp: Stamp, shard: str | None = None) -> bool:
        """Tell whether an image's result has not changed since it was written with this stamp."""
        there = self.stamp(name) if shard is None else self.folder.stamp(shard)
        return there == stamp and self._has_label_map(name)

    def _has_label_map(self, name: str) -> bool:
        wanted = self.recipe.output.label_map
        return not wanted or self.folder.stamp(_label_map(name)) is not None

    def _write_recipe(self) -> None:
        if self.folder.read(RECIPE) is None:
            content = self.recipe.model_dump(mode="json")
            text = f"# The recipe of the results in this folder.\n{DIGEST}{self.digest}\n"
            text += yaml.safe_dump(content, sort_keys=False)
            self.folder.write(RECIPE, [text.encode()])
        if classes := sampler_categories(self.recipe.sampler):
            add_categories(self.folder, classes)

    def _check_recipe(self, continue_anyway: bool, ways_out: str) -> None:
        written = self.folder.read(RECIPE)
        if written is None or _digest(written) == self.digest:
            return
        where = printable(self.folder.root)
        if not continue_anyway:
            raise StoreError(
                f"{where}: has results of another recipe ({_differences(written, self.recipe)}): "
                f"give another --out{ways_out}"
            )
        self._is_mixed = True
        differences = _differences(written, self.recipe, most=100)
        _log.warning("%s: goes on with results of two recipes (%s)", where, differences)


def _is_of_another(document: _Document, name: str) -> bool:
    """Tell whether a result is of an image whose name differs in upper and lower case only.

    File systems that take both for one name return it for this name.
    """
    own = str(document["image"]["file_name"])
    return own != name and own.casefold() == name.casefold()


def _annotations(name: str) -> str:
    return f"annotations/{name}.json"


def _label_map(name: str) -> str:
    return f"label_maps/{name}.png"


def _json(content: object) -> bytes:
    # ASCII, so that names that are not UTF-8 survive; no NaN, which is not JSON.
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def _digest(written: bytes) -> str:
    for line in written.decode("utf-8", "replace").splitlines():
        if line.startswith(DIGEST):
            return line.removeprefix(DIGEST).strip()
    return ""


def _differences(written: bytes, recipe: Recipe, most: int = 3) -> str:
    try:
        there = dict(_flat(parse_yaml(written) or {}))
    except (ValueError, AttributeError, RecursionError):
        return f"its {RECIPE} cannot be read"
    here = dict(_flat(recipe.model_dump(mode="json", exclude={"checkpoint", "version"})))
    for what in ("checkpoint", "version"):
        there.pop(what, None)
    keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
    parts = [f"{key} is {there.get(key)} there and {here.get(key)} now" for key in keys[:most]]
    more = f", and {len(keys) - most} more" if len(keys) > most else ""
    return printable(", ".join(parts) + more) or (
        "with equal settings, by a version of this program that reads some images otherwise"
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
