"""BSDS500 as its authors distribute it: images/SPLIT/*.jpg and groundTruth/SPLIT/*.mat.

Arbelaez, Maire, Fowlkes and Malik (PAMI 2011). Each MATLAB file holds a cell array `groundTruth`
with a structure for each annotator, whose field `Segmentation` is a label map that covers the
whole image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from everything.core.file_names import printable
from everything.errors import InputError, reason_of
from everything.io.images.sources import has_image_suffix


def home_of_bsds(folder: Path) -> Path | None:
    """Return the folder that holds images/ and groundTruth/, at most two levels below; or None."""
    for home in (folder, folder / "data", folder / "BSDS500" / "data"):
        if (home / "groundTruth").is_dir():
            return home
    return None


def bsds_files(home: Path, split: str | None) -> list[tuple[Path, Path]]:
    """Return the image and the annotations of each image, sorted by the image's path.

    Args:
        home: The folder with images/ and groundTruth/.
        split: A folder in groundTruth/, such as "val"; None for all.

    Raises:
        InputError: There are no annotations, or an image of some is missing.
    """
    truth, images = home / "groundTruth", home / "images"
    files = sorted((truth / split if split else truth).rglob("*.mat"))
    if not files:
        parts = ", ".join(sorted(part.name for part in truth.iterdir() if part.is_dir()))
        raise InputError(
            f"{printable(truth / (split or ''))}: no .mat files: choose another split ({parts})"
        )
    known = {
        image.relative_to(images).with_suffix(""): image
        for image in images.rglob("*")
        if has_image_suffix(image.name)
    }
    pairs = []
    for file in files:
        image = known.get(file.relative_to(truth).with_suffix(""))
        if image is None:
            raise InputError(f"{printable(file)}: no image of this name in {printable(images)}")
        pairs.append((image, file))
    return pairs


def read_bsds_labels(file: Path) -> NDArray[np.int16]:
    """Return the label maps of an image, int16 (K, H, W), one for each annotator, from 1 on.

    Raises:
        InputError: It is not a file of BSDS500.
    """
    try:
        annotators = loadmat(file)["groundTruth"].ravel()
        maps = [np.asarray(one["Segmentation"][0, 0]) for one in annotators]
        labels = np.stack(maps)
        if labels.ndim != 3 or labels.min() < 0 or labels.max() >= 2**15 - 1:
            raise ValueError(f"label maps of shape {labels.shape}")
    except Exception as error:  # what the reader raises on broken files is an open set
        reason = printable(f"{type(error).__name__}: {reason_of(error)}")
        raise InputError(
            f"{printable(file)}: not ground truth of BSDS500 ({reason}): get another copy of it"
        ) from error
    return labels.astype(np.int16)
