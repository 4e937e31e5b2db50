"""The folder of a training: nothing in it is replaced unasked."""

from __future__ import annotations

from pathlib import Path

from everything.core.file_names import printable
from everything.errors import InputError

STATE, WEIGHTS = "state.pt", "weights.safetensors"


def check_output(
    out: Path, results: tuple[str, ...], *, resume: bool = False, overwrite: bool = False
) -> None:
    """Refuse a folder in which a training would replace files.

    Args:
        out: The training's folder, which need not exist.
        results: Names of the files that it writes there at its end.
        resume: Whether the training goes on that `out` holds.
        overwrite: Whether the user asked to replace it.

    Raises:
        InputError: If there is a training or a file of one of these names, and neither flag fits.
    """
    is_training = (out / STATE).is_file()
    if resume and not is_training:
        raise InputError(f"{printable(out)}: no training to resume: drop --resume")
    if resume or overwrite:
        return
    if is_training:
        raise InputError(
            f"{printable(out)}: holds a training: --resume resumes it, --overwrite replaces it, "
            "or choose another --out"
        )
    for name in (WEIGHTS, *results):
        if (out / name).exists() or (out / name).is_symlink():
            raise InputError(
                f"{printable(out / name)}: would be replaced: choose another --out, or give "
                "--overwrite"
            )


def write_card(out: Path, name: str, text: str) -> Path:
    """Write a model card and return its file; another text of that name is kept.

    Two cards are of the same kind if they begin with the same line.
    """
    file = out / name
    if file.exists():
        first = file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        if first != text.split("\n", 1)[0]:
            file = out / f"{Path(name).stem}.model-card.md"
    file.write_text(text, encoding="utf-8")
    return file
