"""Checkpoints that are folders in transformers' layout: settings as JSON, and safetensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from everything.core.file_names import printable
from everything.errors import WeightsError

CONFIG = "config.json"
SETTINGS = (CONFIG, "preprocessor_config.json", "processor_config.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the tensors of a folder: one, or the shards that its index names.

    Raises:
        WeightsError: There is none; only safetensors are read, which cannot hold code.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise WeightsError(
            f"{printable(folder)}: has no {SINGLE}: give a folder in transformers' layout; only "
            f"safetensors are read"
        )
    index = _read_json(folder / INDEX)
    names = sorted(set(map(str, index.get("weight_map", {}).values())))
    files = [folder / name for name in names if Path(name).name == name]
    if not names or len(files) < len(names) or not all(file.is_file() for file in files):
        raise WeightsError(
            f"{printable(folder / INDEX)}: names files that are not beside it: copy all of the "
            f"folder"
        )
    return files


def config_of(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json; raises WeightsError."""
    return _read_json(folder / CONFIG)


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of what decides masks in a folder: settings, tokenizer and tensors, with
    their names.

    Raises:
        WeightsError: A file is missing or cannot be read.
    """
    names = (*SETTINGS, *TOKENIZER)
    settings = [folder / name for name in names if (folder / name).is_file()]
    total = hashlib.sha256()
    for path in [*settings, *weight_files(folder)]:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise WeightsError(f"{printable(path)}: cannot be read ({error.strerror})") from error
        total.update(f"{digest}  {path.name}\n".encode())
    return total.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise WeightsError(
            f"{printable(path)}: cannot be read ({reason}): give a folder in transformers' layout"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{printable(path)}: must be a JSON object")
    return content
