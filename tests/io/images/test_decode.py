from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms

from everything.errors import ImageError
from everything.io.images.decode import Limits, decode_image, read_image

ROTATED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, 3),
}


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth enough for lossy formats, different along both axes and in every band."""
    y, x = np.mgrid[0:height, 0:width]
    bands = [6 * x, 255 - 6 * x * 0.8, 200 * y / height + 20]
    return np.stack(bands, -1).clip(0, 255).astype(np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def read(data: bytes, limits: Limits | None = None) -> np.ndarray:
    photo = decode_image(data, "photo", limits or Limits())
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape == (photo.height, photo.width, 3)
    assert photo.pixels.flags.c_contiguous
    assert photo.pixels.flags.writeable
    return photo.pixels


def notes(data: bytes) -> str:
    return "; ".join(decode_image(data, "photo", Limits()).notes)


def reason(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "photo", limits or Limits())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("photo: ")
    return message


@pytest.mark.parametrize("orientation", ROTATED)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied(format: str, orientation: int) -> None:
    upright = picture()
    stored = Image.fromarray(np.ascontiguousarray(ROTATED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read(encoded(stored, format, exif=exif, quality=100, lossless=True))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= (12 if format == "JPEG" else 0)


def test_orientation_of_heic_is_applied(tmp_path: Path) -> None:
    upright = picture(64, 96)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(np.rot90(upright))))
    stored.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=95)
    pixels = read_image(tmp_path / "a.heic").pixels
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 4


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(Image.fromarray(picture()), "PNG", exif=exif)
    assert (read(data) == picture()).all()
    assert f"orientation {value} ignored" in notes(data)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 900]
)
def test_broken_exif_does_not_matter(exif: bytes) -> None:
    data = encoded(Image.fromarray(picture()), "JPEG", exif=exif)
    assert read(data).shape == picture().shape


def test_alpha_lies_over_white() -> None:
    alpha = np.array([[0, 128, 255]], np.uint8)
    rgba = np.dstack([np.full((1, 3, 3), 100, np.uint8), alpha])
    assert read(encoded(Image.fromarray(rgba), "PNG"))[0, :, 0].tolist() == [255, 177, 100]
    grey = encoded(Image.fromarray(rgba[..., 2:]), "PNG")
    assert read(grey)[0, :, 0].tolist() == [255, 177, 100]


def test_opaque_alpha_changes_nothing() -> None:
    rgba = np.dstack([picture(), np.full((24, 40), 255, np.uint8)])
    assert (read(encoded(Image.fromarray(rgba), "PNG")) == picture()).all()


def test_premultiplied_alpha_is_undone_first() -> None:
    buffer = io.BytesIO()
    premultiplied = np.array([[[50, 50, 50, 128], [0, 0, 0, 0], [100, 100, 100, 255]]], np.uint8)
    options = {"photometric": "rgb", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(buffer, premultiplied, **options)
    assert read(buffer.getvalue())[0, :, 0] == pytest.approx([177, 255, 100], abs=2)


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_palette_with_transparency(transparency: object) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    plain = read(encoded(image, "PNG"))
    assert plain.tolist() == [[[255, 0, 0], [0, 0, 255]]]
    see_through = read(encoded(image, "PNG", transparency=transparency))
    assert see_through.tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_colour_key_transparency() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert read(encoded(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_uses_the_full_range(format: str) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = read(encoded(Image.fromarray(values), format))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_colour_png() -> None:
    assert (read(png_16_bit((picture().astype(np.uint16) << 8) + 77)) == picture()).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_tiff_in_planes_or_not(dtype: type[np.generic], planar: str) -> None:
    values = picture()
    if dtype == np.uint16:
        values = (values.astype(np.uint16) << 8) + 77
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb", planarconfig=planar)
    assert (read(buffer.getvalue()) == picture()).all()


def png_16_bit(values: np.ndarray) -> bytes:
    """Pillow does not write these."""
    height, width, _ = values.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        checked = kind + body
        return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_dark_16_bit_photo_is_noted() -> None:
    values = np.full((4, 4), 4095, np.uint16)
    assert "very dark: its brightest value is 4095 of 65535" not in notes(
        encoded(Image.fromarray(values * 4), "PNG")
    )
    assert "4095 of 65535" in notes(encoded(Image.fromarray(values), "PNG"))


@pytest.mark.parametrize("bands", [2, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_several_bands(bands: int, dtype: type[np.generic]) -> None:
    shift = 8 * (np.dtype(dtype).itemsize - 1)
    grey = picture()[..., 0]
    values = np.stack([np.roll(grey, band, 1) for band in range(bands)], -1).astype(dtype) << shift
    buffer = io.BytesIO()
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "deflate"}
    tifffile.imwrite(buffer, values, **options)
    pixels = read(buffer.getvalue())
    expected = [0, 1, 2] if bands > 2 else [0, 0, 0]
    assert (pixels == (values[..., expected] >> shift)).all()
    assert f"{bands} bands, the first" in notes(buffer.getvalue())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-10.0, 0.0, 10.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 2.0, 4.0]], np.float32), [0, 0, 255]),
        (np.array([[1000, 1500, 2000]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float64), [0, 128, 255]),
        (np.array([[-3, 0, 3]], np.int16), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.float32), [0, 0, 0]),
    ],
)
def test_numbers_without_a_natural_range(values: np.ndarray, expected: list[int]) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values)
    assert read(buffer.getvalue())[0, :, 0].tolist() == expected


def test_tiff_upside_down_through_tifffile() -> None:
    values = np.repeat(picture()[..., :1], 5, 2)
    buffer = io.BytesIO()
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    rotated = np.ascontiguousarray(np.rot90(values))
    tifffile.imwrite(buffer, rotated, extratags=[(274, "H", 1, 6, True)], **options)
    assert (read(buffer.getvalue()) == values[..., :3]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    assert (read(encoded(image, "PNG")) == np.array(image.convert("RGB"))).all()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_without_profile(format: str) -> None:
    image = Image.fromarray(picture()).convert("CMYK")
    pixels = read(encoded(image, format, quality=100))
    assert np.abs(pixels.astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "BMP", "PPM", "GIF", "JPEG2000"])
def test_other_formats(format: str) -> None:
    pixels = read(encoded(Image.fromarray(picture()), format))
    assert pixels.shape == picture().shape
    assert np.abs(pixels.astype(int) - picture()).mean() < 8


def test_lab() -> None:
    lab = Image.new("LAB", (2, 1))
    lab.putdata([(255, 128, 128), (0, 128, 128)])
    white, black = read(encoded(lab, "TIFF"))[0]
    assert white.min() >= 253
    assert black.max() <= 2


def swapped_profile() -> bytes:
    """A profile whose red and green are exchanged, so that its conversion cannot be missed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    # Not to be taken for sRGB by its name (UTF-16).
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "GRBs".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_profiles_are_converted(mode: str) -> None:
    data = encoded(Image.new(mode, (4, 4), "red"), "PNG", icc_profile=swapped_profile())
    assert read(data)[0, 0] == pytest.approx([0, 255, 0], abs=8)
    assert not notes(data)


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.fromarray(picture()), "PNG", icc_profile=profile)
    assert (read(data) == picture()).all()


@pytest.mark.parametrize("profile", [b"nonsense", swapped_profile()[:200], b"\0" * 128])
def test_bad_profiles_are_ignored_and_noted(profile: bytes) -> None:
    data = encoded(Image.fromarray(picture()), "PNG", icc_profile=profile)
    assert (read(data) == picture()).all()
    assert "colour profile ignored" in notes(data)


def test_a_profile_of_another_colour_space_is_ignored() -> None:
    grey = Image.fromarray(picture()).convert("L")
    data = encoded(grey, "PNG", icc_profile=swapped_profile())
    assert (read(data)[..., 0] == np.array(grey)).all()
    assert "colour profile ignored" in notes(data)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_counts(format: str) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(first, format, save_all=True, append_images=[second], **options)
    assert read(data)[0, 0] == pytest.approx([255, 0, 0], abs=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_thin_photos(size: tuple[int, int]) -> None:
    assert read(encoded(Image.new("RGB", size), "PNG")).shape == (size[1], size[0], 3)


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    path.write_bytes(encoded(Image.fromarray(picture()), "PNG"))
    assert (read_image(path).pixels == picture()).all()
