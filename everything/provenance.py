"""The files that decide masks beside a variant's own checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from everything.detectors.known import KNOWN
from everything.variants import VARIANTS, VariantRecord
from everything.variants.borrowing import borrows
from everything.variants.weights import read_state, sha256


def other_files(
    record: VariantRecord, checkpoint: Path | None, sampler: Mapping[str, Any]
) -> dict[str, str]:
    """Return the SHA-256 of what decides masks beside the variant's own checkpoint, by what it is.

    checkpoint: the user's, None for the official one. sampler: its settings. Raises WeightsError if
    a file cannot be had.
    """
    found = {f"sampler.{key}": sha256(file) for key, file in _files(sampler)}
    if record.lender:
        path = checkpoint or record.weights.path()
        if borrows(record, read_state(path)):
            found[record.lender] = VARIANTS[record.lender].weights.digest()
    return found


def _files(sampler: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """A sampler's settings, and those of the samplers in it, that name a file."""
    for key, value in sampler.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", file) for inner, file in _files(value))
        elif key == "detector" and value in KNOWN:
            yield key, KNOWN[value].path()
        elif isinstance(value, str) and Path(value).is_file():
            yield key, Path(value)
