"""BSDS500's own layout, in files written as MATLAB has them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from everything.errors import InputError
from everything.io.datasets.label_maps import read_labelled_images

SIZE = (20, 30)
LEFT = np.repeat([[1] * 15 + [2] * 15], 20, axis=0).astype(np.uint16)
FINE = LEFT + 2 * (np.arange(20)[:, None] >= 10).astype(np.uint16)


def add(home: Path, name: str, maps: list[np.ndarray], image: bool = True) -> Path:
    """An image of BSDS500 with its annotations: a cell array of structures."""
    cells = np.empty((1, len(maps)), object)
    for place, one in enumerate(maps):
        cells[0, place] = {"Segmentation": one, "Boundaries": np.zeros(one.shape, bool)}
    file = home / "groundTruth" / f"{name}.mat"
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"groundTruth": cells})
    if image:
        target = home / "images" / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (9, 90, 9)).save(target)
    return file


@pytest.mark.parametrize("below", ["", "data", "BSDS500/data"])
def test_annotators_and_splits(tmp_path: Path, below: str) -> None:
    home = tmp_path / below
    add(home, "val/101085", [LEFT, FINE])
    add(home, "train/8049", [FINE])
    (home / "images" / "val" / "Thumbs.db").write_bytes(b"not an image")
    images = list(read_labelled_images(tmp_path))
    assert [image.name for image in images] == ["train/8049.jpg", "val/101085.jpg"]
    (val,) = read_labelled_images(tmp_path, "val")
    assert val.labels.dtype == np.int16
    assert (val.labels == np.stack([LEFT, FINE])).all()
    assert val.complete
    assert val.pixels.shape == (*SIZE, 3)


def test_what_is_missing_or_broken_is_one_line(tmp_path: Path) -> None:
    file = add(tmp_path, "val/1", [LEFT])
    with pytest.raises(InputError, match=r"choose another split \(val\)"):
        list(read_labelled_images(tmp_path, "test"))
    add(tmp_path, "val/2", [LEFT], image=False)
    with pytest.raises(InputError, match="no image of this name"):
        list(read_labelled_images(tmp_path))
    (file.parent / "2.mat").unlink()
    for content in (b"", b"nonsense" * 40, file.read_bytes()[:300]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="not ground truth of BSDS500") as caught:
            list(read_labelled_images(tmp_path))
        assert "\n" not in str(caught.value)
    savemat(file, {"other": LEFT})
    with pytest.raises(InputError, match="not ground truth of BSDS500"):
        list(read_labelled_images(tmp_path))
