"""What people call an image in Python."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everything.errors import InputError
from everything.io.images.inputs import each_image, is_one_image, name_of, pixels_of
from tests.photos import photo

PHOTO = photo("chelsea", 64)
GREY = PHOTO[..., 0]
RGBA = np.dstack([PHOTO, np.full(GREY.shape, 255, np.uint8)])


def test_every_kind_gives_the_same_pixels(tmp_path: Path) -> None:
    file = tmp_path / "a cat.png"
    Image.fromarray(PHOTO).save(file)
    chw = torch.from_numpy(PHOTO).permute(2, 0, 1)
    kinds = [file, str(file), f"file://{file}", Image.fromarray(PHOTO), PHOTO, RGBA,
             PHOTO / 255, (PHOTO / 255).astype(np.float32), chw, chw.double() / 255,
             chw.float() / 255]  # fmt: skip
    for image in kinds:
        assert is_one_image(image)
        pixels = pixels_of(image)
        assert pixels.dtype == np.uint8
        assert (pixels == PHOTO).all()


@pytest.mark.parametrize(
    "image",
    [GREY, GREY[..., None], Image.fromarray(GREY), torch.from_numpy(GREY),
     torch.from_numpy(GREY)[None]],
)  # fmt: skip
def test_grey_is_the_same_in_all_channels(image: object) -> None:
    assert (pixels_of(image) == GREY[..., None]).all()


def test_transparent_pixels_are_white_as_in_files() -> None:
    clear = RGBA.copy()
    clear[:5, :, 3] = 0
    for image in (clear, torch.from_numpy(clear).permute(2, 0, 1), Image.fromarray(clear)):
        pixels = pixels_of(image)
        assert (pixels[:5] == 255).all()
        assert (pixels[5:] == PHOTO[5:]).all()


def test_a_pil_image_keeps_its_orientation_and_a_file_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.png"
    Image.fromarray(PHOTO).save(file, exif=exif)
    assert pixels_of(file).shape[:2] == PHOTO.shape[1::-1]
    with Image.open(file) as opened:
        assert pixels_of(opened).shape == PHOTO.shape


@pytest.mark.parametrize(
    ("image", "way_out"),
    [
        (PHOTO.astype(np.float32), "an array .* from 0 to 1"),
        (257 * PHOTO[..., 0].astype(np.uint16), r"example \(image // 257\)"),
        (PHOTO > 100, r"example 255 \* image.astype"),
        (PHOTO.transpose(2, 0, 1), "channels come last"),
        (PHOTO[..., :2], "not .H, W"),
        (PHOTO[0, 0], "not .H, W"),
        (torch.from_numpy(PHOTO), "not .C, H, W"),
        (torch.from_numpy(PHOTO).permute(2, 0, 1).float(), "from 0 to 1"),
        (torch.full((3, 4, 4), torch.nan), "from 0 to 1"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "give uint8"),
    ],
)
def test_arrays_that_are_no_image_are_refused_with_the_way_out(image: object, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        pixels_of(image)


@pytest.mark.parametrize("image", [3, None, b"abc", {1: 2}])
def test_other_kinds_are_type_errors(image: object) -> None:
    assert not is_one_image(image)
    with pytest.raises(TypeError, match="a path, a URL, a PIL image"):
        pixels_of(image)
    with pytest.raises(TypeError, match="a path, a URL, a PIL image"):
        each_image(image)


def test_a_batch_is_several_images() -> None:
    batch = torch.from_numpy(np.stack([PHOTO, PHOTO])).permute(0, 3, 1, 2)
    assert not is_one_image(batch)
    assert [(pixels_of(one) == PHOTO).all() for one in each_image(batch)] == [True, True]


def test_paths_that_are_no_image_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"label\(\) for folders"):
        pixels_of(tmp_path)
    with pytest.raises(InputError, match="exist"):
        pixels_of(tmp_path / "missing.png")


def test_names() -> None:
    assert name_of("photos/cat.jpg") == name_of(Path("photos/cat.jpg")) == "cat.jpg"
    assert name_of("https://host/cat.jpg?key=secret/of") == "cat.jpg"
    assert name_of(PHOTO) == ""
