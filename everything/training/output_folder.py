"""The folder of a training: marked as this program's, whose files alone are ever replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from everything.core.file_names import printable
from everything.errors import InputError
from everything.io.storage.output_folder import OutputFolder

STATE, WEIGHTS = "state.pt", "weights.safetensors"
_STATE_KEYS = {"net", "mean", "optimisers", "random", "steps", "seconds"}


def check_output(
    out: Path, results: tuple[str, ...], *, resume: bool = False, overwrite: bool = False
) -> None:
    """Claim a folder for a training, or refuse one in which it would replace files.

    Args:
        out: The training's folder, which need not exist.
        results: Names of the files that it writes there at its end; a model card (.md) of others
            is kept beside its own.
        resume: Whether the training goes on that `out` holds.
        overwrite: Whether the user asked to replace it.

    Raises:
        InputError: There is a training, and neither flag fits.
        StoreError: There is a file of one of these names that no training wrote.
    """
    folder = OutputFolder(out, "training")
    names = [STATE, WEIGHTS, *results]
    is_old = not folder.is_own() and _is_training(out / STATE)  # of a version without markers
    own = {name for name in names if not name.endswith(".md")} if is_old else folder.listed()
    is_training = (out / STATE).is_file() and STATE in own
    if resume and not is_training:
        raise InputError(f"{printable(out)}: no training to resume: drop --resume")
    if is_training and not (resume or overwrite):
        raise InputError(
            f"{printable(out)}: holds a training: --resume resumes it, --overwrite replaces it, "
            "or choose another --out"
        )
    for name in names:
        if name in own and os.path.lexists(out / name) and not (resume or overwrite):
            raise InputError(
                f"{printable(out / name)}: would be replaced: choose another --out, or give "
                "--overwrite"
            )
    if is_old:
        folder.claim()
        folder.list(name for name in own if (out / name).is_file())
    has_flag = resume or overwrite
    folder.claim(*(name for name in names if not (has_flag and name.endswith(".md"))))
    if not folder.is_own():
        raise InputError(f"{printable(out)}: of another command: choose another --out")
    folder.finish()


def _is_training(file: Path) -> bool:
    """Tell whether a file is the state of a training of this program."""
    if file.is_symlink() or not file.is_file():
        return False
    try:
        state = torch.load(file, "cpu", weights_only=True)
    except Exception:  # torch.load raises anything for what is no state
        return False
    return isinstance(state, dict) and state.keys() >= _STATE_KEYS


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a training, each whole or not at all.

    Raises:
        StoreError: One would replace a file of others, or cannot be written.
    """
    folder = OutputFolder(out, "training")
    folder.claim(*files)
    for name, content in files.items():
        folder.write(name, content)
    folder.finish()


def write_weights(out: Path, name: str, weights: Mapping[str, Tensor]) -> Path:
    """Write weights and return their file; raises as `write_files`."""
    write_files(out, {name: save(dict(weights))})
    return out / name


def write_card(out: Path, name: str, text: str) -> Path:
    """Write a model card and return its file; what is not as a training wrote it is kept."""
    folder, stem = OutputFolder(out, "training"), Path(name).stem
    names = chain([name, f"{stem}.model-card.md"], (f"{stem}.{n}.md" for n in count(2)))
    free = next(one for one in names if not os.path.lexists(out / one) or folder.is_unchanged(one))
    write_files(out, {free: text.encode()})
    return out / free
