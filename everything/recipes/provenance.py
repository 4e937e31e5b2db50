"""SHA-256 of the files that decide masks, besides the variant's own checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from everything.config import Recipe
from everything.core.file_names import printable
from everything.detectors.checkpoints import KNOWN
from everything.errors import WeightsError
from everything.io.storage.locations import Url, located
from everything.variants import VARIANTS, VariantRecord
from everything.variants.checkpoints.model_folder import CONFIG
from everything.variants.checkpoints.weights import sha256


def other_files(
    record: VariantRecord, checkpoint: Path | None, sampler: Mapping[str, Any]
) -> dict[str, str]:
    """Return the SHA-256 of what decides masks beside the variant's own checkpoint, by what it is.

    checkpoint: the user's, None for the official one. sampler: its settings. Raises WeightsError if
    a file cannot be had.
    """
    found = {f"sampler.{key}": sha256(file) for key, file in _files(sampler)}
    if record.base_variant:
        # Reading weights needs PyTorch, which takes seconds to import.
        from everything.variants.checkpoints.reader import read_state
        from everything.variants.checkpoints.shared_weights import needs_base

        path = checkpoint or record.weights.path()
        if needs_base(record, read_state(path)):
            found[record.base_variant] = VARIANTS[record.base_variant].weights.digest()
    return found


def check_files(recipe: Recipe, record: VariantRecord, path: Path) -> None:
    """Raise WeightsError if a file is not the one that the recipe was made with: the same path
    can be another file on another machine, or later.

    path: of the variant's weights.
    """
    own = recipe.checkpoint
    is_checked = isinstance(located(own), Url) if own else bool(record.weights.sha256)
    if not is_checked:
        _compare(str(path), recipe.weights, sha256(path))
    found = other_files(record, path if own else None, recipe.sampler) if recipe.others else {}
    for what, digest in recipe.others.items():
        _compare(what, digest, found.get(what, "none: it is not there"))


def _compare(what: str, expected: str, found: str) -> None:
    if expected not in ("", found):
        raise WeightsError(
            f"{printable(what)}: not the file that the job began with (its SHA-256 is {found}, not "
            f"{expected}): copy that one to every machine, or give a URL"
        )


def _files(sampler: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """A sampler's settings, and those of the samplers in it, that name a file."""
    for key, value in sampler.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", file) for inner, file in _files(value))
        elif key == "detector" and value in KNOWN:
            yield key, KNOWN[value].path()
        elif isinstance(value, str) and _is_checkpoint(Path(value)):
            yield key, Path(value)


def _is_checkpoint(path: Path) -> bool:
    """Whether it is a file, or a folder in transformers' layout."""
    return path.is_file() or (path / CONFIG).is_file()
