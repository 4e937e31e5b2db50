"""Exports for ultralytics, loaded by its own loader from another working directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from everything.export.fidelity import Fidelity
from everything.export.run import export
from tests.export.handed import iou
from tests.labelled import disc, write_labels

SIZE = (48, 64)
MASK = disc(SIZE, (40, 20), 12)


def pixels() -> NDArray[np.uint8]:
    """Dark, with a white disc where the mask is."""
    return np.where(MASK[..., None], 255, 20).astype(np.uint8).repeat(3, 2)


Save = Callable[[Path], None]


def saved(**options: Any) -> Save:
    return lambda path: Image.fromarray(pixels()).save(path, **options)


def turned(orientation: int, turn: Image.Transpose, **options: Any) -> Save:
    def save(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels()).transpose(turn).save(path, exif=exif, **options)

    return save


def deep(path: Path) -> None:
    Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257).save(path)


def without_end(path: Path) -> None:
    saved(format="JPEG", quality=95)(path)
    path.write_bytes(path.read_bytes() + b"\0" * 40)


def bad_text(path: Path) -> None:
    """A PNG with a wrong checksum behind its pixels, which Pillow's verify refuses."""
    saved()(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-12] + b"\0\0\0\2tEXta\0\0\0\0\0" + whole[-12:])


IMAGES: dict[str, Save] = {
    "x.jpg": saved(quality=95),
    "x.PNG": saved(),
    "photo.jfif": saved(format="JPEG", quality=95),
    "photo.jpe": saved(format="JPEG", quality=95),
    "x.gif": saved(),
    "x.ppm": saved(),
    "x.pgm": lambda path: Image.fromarray(pixels()[..., 0]).save(path),
    "x.bmp": saved(),
    "x.webp": saved(lossless=True),
    "x.tif": saved(),
    "x.jp2": saved(),
    "wrong.jpg": saved(format="PNG"),
    "wrong.png": saved(format="GIF"),
    "deep.png": deep,
    "turned.jpg": turned(6, Image.Transpose.ROTATE_90, quality=95),
    "turned.png": turned(6, Image.Transpose.ROTATE_90),
    "turned.webp": turned(8, Image.Transpose.ROTATE_270, lossless=True),
    "turned.tif": turned(6, Image.Transpose.ROTATE_90),
    "end.jpg": without_end,
    "images/x.jpg": saved(quality=95),
    "images/images/x.jpg": saved(quality=95),
    "a/images/x.png": saved(),
    "a/images_/x.png": saved(),
    ".hidden/.x.png": saved(),
    "a.b/c.d.jpg": saved(quality=95),
    "[1]/x*.png": saved(),
}


def loaded(out: Path, elsewhere: Path) -> dict[str, tuple[NDArray[np.uint8], list[Any]]]:
    """What ultralytics sees: of each image, by its file, pixels and masks."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset
    from ultralytics.utils import LOGGER

    LOGGER.setLevel("ERROR")
    elsewhere.mkdir(exist_ok=True)
    before = Path.cwd()
    os.chdir(elsewhere)
    try:
        data = check_det_dataset(str(out / "data.yaml"))
        settings = get_cfg(overrides={"mask_ratio": 1, "overlap_mask": False, "task": "segment"})
        dataset = YOLODataset(img_path=data["train"], imgsz=64, augment=False, rect=False,
                              data=data, task="segment", hyp=settings)  # fmt: skip
        found = {}
        for row, file in enumerate(dataset.im_files):
            item = dataset[row]
            shown = item["img"].numpy()[::-1].transpose(1, 2, 0)[8:56]  # padded to a square
            masks = [mask[8:56].astype(bool) for mask in item["masks"].numpy()]
            found[Path(file).relative_to(out / "images").as_posix()] = shown, masks
        return found
    finally:
        os.chdir(before)


def exported(tmp_path: Path, images: dict[str, Save], photos: Any = "link") -> Fidelity:
    for name, save in images.items():
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / "p" / name)
    write_labels(tmp_path / "l", tmp_path / "p", {name: [MASK] for name in images})
    return export(tmp_path / "l", "yolo-seg", tmp_path / "y", photos=photos)


@pytest.mark.parametrize("photos", ["link", "copy"])
def test_ultralytics_sees_every_image_with_its_mask(tmp_path: Path, photos: str):
    fidelity = exported(tmp_path, IMAGES, photos)
    assert (fidelity.masks, fidelity.left_out) == (len(IMAGES), 0)
    found = loaded(tmp_path / "y", tmp_path / "elsewhere")
    assert len(found) == len(IMAGES)
    for name, (shown, masks) in found.items():
        assert len(masks) == 1, name
        assert iou(masks[0], MASK) > 0.98, name
        assert iou(shown[..., 0] > 128, MASK) > 0.95, name  # the image is upright
    assert fidelity.images_converted == fidelity.to_json()["photos_converted"] > 5


def test_a_jpeg_that_ultralytics_would_repair_is_no_link(tmp_path: Path):
    exported(tmp_path, {"end.jpg": without_end, "x.jpg": saved()})
    assert (tmp_path / "y" / "images" / "x.jpg").is_symlink()
    before = (tmp_path / "p" / "end.jpg").read_bytes()
    assert len(loaded(tmp_path / "y", tmp_path)) == 2
    assert (tmp_path / "p" / "end.jpg").read_bytes() == before


def test_the_tally_has_what_ultralytics_sees(tmp_path: Path):
    small = np.ones((9, 40), bool)
    twice = [MASK, MASK, disc(SIZE, (20, 20), 9)]
    images = {"small.png": [small], "twice.png": twice, "gone.png": [MASK], "turned.png": [MASK]}
    write_labels(tmp_path / "l", tmp_path / "p", images)
    (tmp_path / "p" / "gone.png").unlink()
    Image.new("RGB", SIZE).save(tmp_path / "p" / "turned.png")
    fidelity = export(tmp_path / "l", "yolo-seg", tmp_path / "y")
    assert (fidelity.masks, fidelity.left_out) == (2, 4)
    counts = (fidelity.images_refused, fidelity.images_not_found, fidelity.images_changed)
    assert counts == (1, 1, 1)
    found = loaded(tmp_path / "y", tmp_path)
    assert {name: len(masks) for name, (_, masks) in found.items()} == {"twice.png": 2}
    told = json.loads((tmp_path / "y" / "export.json").read_bytes())
    assert [told[f"photos_{name}"] for name in ("refused", "not_found", "changed")] == [1, 1, 1]
    assert {reason.split(":")[0] for reason in told["photo_reasons"]} == {
        "small.png", "gone.png", "turned.png",
    }  # fmt: skip


@pytest.mark.parametrize("to", ["coco", "cvat", "voc-png", "geojson", "label-studio", "panoptic"])
@pytest.mark.parametrize("photos", ["none", "link", "copy"])
def test_images_that_have_changed_are_counted_in_every_format(tmp_path: Path, to: str, photos: Any):
    write_labels(tmp_path / "l", tmp_path / "p", {"a.jpg": [MASK], "b.jpg": [MASK]})
    Image.new("RGB", SIZE).save(tmp_path / "p" / "b.jpg")  # turned by 90 degrees
    fidelity = export(tmp_path / "l", to, tmp_path / "o", photos=photos)
    assert (fidelity.images, fidelity.images_changed) == (2, 1)
    placed = [path.name for path in (tmp_path / "o").rglob("*.jpg")]
    assert placed == ([] if photos == "none" else ["a.jpg"])
