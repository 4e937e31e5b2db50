"""TIFFs of satellites, thermal cameras, scanners and drones."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from everything.errors import ImageError
from everything.io.images.decode import DecodedImage, Limits, decode_image
from everything.io.images.tiff_regions import open_tiff
from tests.io.images.test_decode import encoded, swapped_profile
from tests.photos import photo


def tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def read(data: bytes, stretch: bool = True) -> DecodedImage:
    return decode_image(data, "image", Limits(), stretch)


def no_data(text: str) -> dict[str, Any]:
    return {"extratags": [(42113, "s", 0, text, True)]}


GREY = photo("chelsea")[:120, :160, 0]
COLOUR = photo("chelsea")[:120, :160]
# As measurements: what a stretch from the lowest to the highest gives back.
SPREAD = np.round((GREY.astype(float) - GREY.min()) * 255 / np.ptp(GREY)).astype(np.uint8)


@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "zstd"])
@pytest.mark.parametrize(("factor", "offset"), [(12, 0), (8, 7000), (4, 300)])
def test_16_bits_in_a_small_part_of_the_range_are_stretched(
    factor: int, offset: int, compression: str | None
) -> None:
    values = (GREY.astype(np.uint16) * factor) + np.uint16(offset)
    found = read(tiff(values, compression=compression))
    assert np.abs(found.pixels[..., 0].astype(int) - SPREAD).max() <= 1
    low, high = values.min(), values.max()
    assert f"values from {low} to {high} stretched to 8 bits" in found.notes
    as_stored = read(tiff(values, compression=compression), stretch=False)
    assert (as_stored.pixels[..., 0] == values >> 8).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG2000"])
def test_dark_16_bits_of_other_formats_are_stretched(form: str) -> None:
    values = GREY.astype(np.uint16) * 12
    options = {"irreversible": False} if form == "JPEG2000" else {}
    found = read(encoded(Image.fromarray(values), form, **options))
    assert np.abs(found.pixels[..., 0].astype(int) - SPREAD).max() <= 1
    assert any("stretched" in note for note in found.notes)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_dark_16_bit_colour_keeps_its_colours(planar: str, compression: str | None) -> None:
    values = COLOUR.astype(np.uint16) * 16
    stored = values if planar == "contig" else np.moveaxis(values, 2, 0)
    found = read(tiff(stored, photometric="rgb", planarconfig=planar, compression=compression))
    low, high = COLOUR.min(), COLOUR.max()
    expected = np.round((COLOUR.astype(float) - low) * 255 / (high - low))
    assert np.abs(found.pixels - expected).max() <= 1


def test_16_bits_that_use_their_range_are_not_stretched() -> None:
    values = COLOUR.astype(np.uint16) << 8 | 77
    found = read(tiff(values, photometric="rgb"))
    assert (found.pixels == COLOUR).all()
    assert found.notes == ()
    assert (read(tiff(values[..., 0])).pixels[..., 0] == COLOUR[..., 0]).all()


@pytest.mark.parametrize(("end", "shown"), [(0, 0), (65535, 255)])
@pytest.mark.parametrize("offset", [7000, 20000])
def test_a_border_or_saturated_part_does_not_spoil_the_stretch(
    end: int, shown: int, offset: int
) -> None:
    values = GREY.astype(np.uint16) * 8 + np.uint16(offset)
    values[:20] = end
    found = read(tiff(values)).pixels[..., 0].astype(int)
    alone = read(tiff(values[20:])).pixels[..., 0].astype(int)
    assert (found[:20] == shown).all()
    assert (found[20:] == alone).all()
    assert alone.max() - alone.min() == 255


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4", "u4"])
def test_a_border_of_zeros_does_not_spoil_the_stretch_of_measurements(dtype: str) -> None:
    values = GREY.astype(dtype) + 27_000  # hundredths of kelvins
    values[:20] = 0
    found = read(tiff(values)).pixels[..., 0].astype(int)
    assert (found[:20] == 0).all()
    assert (found[20:] == read(tiff(values[20:])).pixels[..., 0]).all()
    assert np.ptp(found[20:]) == 255


def test_of_complex_values_the_magnitudes_are_shown() -> None:
    values = GREY * np.exp(1j * np.arange(160)).astype(np.complex64)
    found = read(tiff(values.astype(np.complex64)))
    assert np.abs(found.pixels[..., 0].astype(int) - SPREAD).max() <= 1
    assert any("magnitudes" in note for note in found.notes)


@pytest.mark.parametrize("space", ["cielab", "palette"])
def test_colours_that_are_no_brightness_are_refused_rather_than_shown_as_such(space: str) -> None:
    values = COLOUR.astype(np.uint16) * 99
    options: dict[str, Any] = {"photometric": space}
    if space == "palette":
        values, options["colormap"] = values[..., 0], np.zeros((3, 65_536), np.uint16)
    with pytest.raises(ImageError, match=r"colours of 16 bits are not read: convert it to RGB"):
        read(tiff(values, **options))


def test_webp_in_tiff_is_read() -> None:
    found = read(tiff(COLOUR, photometric="rgb", compression="webp", compressionargs={"level": -1}))
    assert (found.pixels == COLOUR).all()


def test_half_precision_floats_are_read() -> None:
    values = GREY.astype(np.float16) * 8
    values[:20] = np.nan
    found = read(tiff(values))
    assert found.pixels[20:].min() == 0
    assert found.pixels.max() == 255


def test_hot_pixels_do_not_spoil_the_stretch() -> None:
    values = GREY.astype(np.uint16) * 12
    values[5, :40] = 65_535
    found = read(tiff(values))
    without = np.delete(np.arange(120), 5)
    assert np.abs(found.pixels[without, :, 0].astype(int) - SPREAD[without]).max() <= 12
    assert (found.pixels[5, :40] == 255).all()
    assert any("highest 65535" in note for note in found.notes)


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("f4", -9999, "-9999"),
        ("f4", -3.4028234663852886e38, "-3.4028234663852886e+38"),
        ("f4", -3.4028234663852886e38, "-3.4e+38"),
        ("f4", -3.4028234663852886e38, None),
        ("f8", -1.7976931348623157e308, "-1.79769313486232e+308"),
        ("f4", np.nan, "nan"),
        ("f4", np.nan, None),
        ("f4", -9999, None),
        ("f4", -9999, "-32768"),  # the tag is another program's
        ("f4", -10000, None),
        ("f4", -999, None),
        ("f4", 1e20, None),
        ("f4", 123456, "123456"),
        ("i2", -32768, "-32768"),
        ("i2", -9999, None),
        ("i2", -32768, None),
        ("i4", -2147483648, None),
        ("u4", 4294967295, None),
        ("u2", 65535, "65535"),
        ("u2", 0, "0"),
    ],
)
def test_no_data_is_left_out_of_the_stretch(dtype: str, value: float, text: str | None) -> None:
    whole = (GREY.astype(dtype) + 300) * 2
    holed = whole.copy()
    holed[:20] = value
    expected = read(tiff(whole))
    # Predictors and so on have no part in it: as GDAL writes grids.
    found = read(tiff(holed, compression="deflate", **({} if text is None else no_data(text))))
    assert np.abs(found.pixels[20:].astype(int) - expected.pixels[20:]).max() <= 6
    assert (found.pixels[:20] == 0).all()
    assert any("no data" in note for note in found.notes)


def test_no_data_that_is_no_number_is_noted() -> None:
    found = read(tiff(GREY.astype(np.float32), **no_data("none")))
    assert any("'none' ignored" in note for note in found.notes)


def test_no_data_of_8_bits_changes_no_pixel() -> None:
    for text in ("0", "255", "-9999"):
        found = read(tiff(GREY, **no_data(text)))
        assert (found.pixels[..., 0] == GREY).all()


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "u4", "i2", "?"])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_min_is_white(dtype: str, compression: str | None) -> None:
    values = GREY.astype(dtype) if dtype != "?" else GREY > 99
    if dtype == "u2":
        values = values * 257
    options: dict[str, Any] = {"compression": compression}
    if dtype == "?":
        options = {}
    black = read(tiff(values, photometric="minisblack", **options))
    white = read(tiff(values, photometric="miniswhite", **options))
    assert np.abs(255 - white.pixels.astype(int) - black.pixels).max() <= 1
    assert np.ptp(black.pixels) > 200


def test_min_is_white_with_no_data() -> None:
    values = GREY.astype(np.float32)
    values[:20] = -9999
    found = read(tiff(values, photometric="miniswhite", **no_data("-9999")))
    assert (found.pixels[:20] == 0).all()
    assert np.corrcoef(found.pixels[20:, :, 0].ravel(), GREY[20:].ravel())[0, 1] < -0.99


def test_signed_8_bits_are_signed() -> None:
    values = (GREY.astype(int) - 128).astype(np.int8)
    assert np.abs(read(tiff(values)).pixels[..., 0].astype(int) - SPREAD).max() <= 1


def test_a_dark_float_image_is_stretched_and_others_within_0_and_1_are_not() -> None:
    values = GREY.astype(np.float32) / 255
    assert np.abs(read(tiff(values)).pixels[..., 0].astype(int) - GREY).max() <= 1
    assert np.abs(read(tiff(values / 9)).pixels[..., 0].astype(int) - SPREAD).max() <= 1
    assert np.abs(read(tiff(values / 9), stretch=False).pixels[..., 0] - GREY / 9).max() <= 1


def pages(*kinds: tuple[np.ndarray, int], **options: Any) -> bytes:
    """A file of pages, each with its NewSubfileType."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for values, kind in kinds:
            writer.write(values, subfiletype=kind, metadata=None, contiguous=False, **options)
    return buffer.getvalue()


SMALL = np.ascontiguousarray(COLOUR[::8, ::8])


@pytest.mark.parametrize("compression", [None, "deflate", "jpeg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_page_of_full_resolution_is_read(dtype: type[np.generic], compression: str) -> None:
    if compression == "jpeg" and dtype == np.uint16:
        return
    small, large = (
        a.astype(dtype) << (8 * (np.dtype(dtype).itemsize - 1)) for a in (SMALL, COLOUR)
    )
    options = {"photometric": "rgb", "compression": compression}
    alone = read(pages((large, 0), **options))
    first = read(pages((small, 1), (large, 0), **options))
    assert (first.pixels == alone.pixels).all()
    assert "the first page is a smaller copy or a mask: the one of 160 x 120 px" in first.notes[0]
    two = read(pages((small, 1), (small, 1), (large, 0), (small, 1), **options))
    assert (two.pixels == alone.pixels).all()
    pyramid = read(pages((large, 0), (small, 1), (small, 1), **options))
    assert (pyramid.pixels == alone.pixels).all()
    assert pyramid.notes == ()


def test_the_image_may_lie_in_a_page_below_its_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(SMALL, subfiletype=1, subifds=1, photometric="rgb", metadata=None)
        writer.write(COLOUR, subfiletype=0, photometric="rgb", metadata=None)
    assert (read(path.read_bytes()).pixels == COLOUR).all()
    raster = open_tiff(path, 100)
    assert raster is not None
    assert raster.size == (120, 160)
    assert (raster.read((0, 0, 160, 120)) == COLOUR).all()
    assert raster.notes == read(path.read_bytes()).notes != ()
    raster.close()


def test_the_old_tag_of_reduced_pages_counts() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        writer.write(SMALL, extratags=[(255, "H", 1, 2, True)], **options)
        writer.write(COLOUR, **options)
    assert (read(buffer.getvalue()).pixels == COLOUR).all()


def test_a_thumbnail_alone_is_read() -> None:
    found = read(pages((SMALL, 1), photometric="rgb"))
    assert (found.pixels == SMALL).all()


def test_pages_that_are_left_out_are_noted() -> None:
    found = read(pages((COLOUR, 0), (SMALL, 0), (COLOUR, 0), photometric="rgb"))
    assert (found.pixels == COLOUR).all()
    assert found.notes == ("only the first of 3 pages is read",)


ALPHA = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
BANDS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "rgba": (np.dstack([COLOUR, ALPHA]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "premultiplied": (
        np.dstack([(COLOUR * (ALPHA[..., None] / 255.0)).astype(np.uint8), ALPHA]),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
    ),
    "rgbx": (
        np.dstack([COLOUR, ALPHA]),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
    ),
    "grey alpha": (
        np.dstack([GREY, ALPHA]),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
    ),
    "infrared and alpha": (
        np.dstack([COLOUR, GREY, ALPHA]),
        {"photometric": "rgb", "extrasamples": ["unspecified", "unassalpha"]},
    ),
    "profile": (COLOUR, {"photometric": "rgb", "iccprofile": swapped_profile()}),
    "profile and alpha": (
        np.dstack([COLOUR, ALPHA]),
        {
            "photometric": "rgb",
            "extrasamples": ["unassalpha"],
            "iccprofile": swapped_profile(),
        },
    ),
}


@pytest.mark.parametrize("layout", [{}, {"tile": (64, 48)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
@pytest.mark.parametrize("kind", BANDS)
def test_regions_are_those_of_the_whole_image(
    tmp_path: Path, kind: str, compression: str | None, layout: dict[str, Any]
) -> None:
    values, options = BANDS[kind]
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(values, compression=compression, **layout, **options))
    whole = read(path.read_bytes())
    raster = open_tiff(path, 100)
    assert raster is not None
    assert raster.notes == whole.notes
    for box in [(0, 0, 160, 120), (31, 60, 130, 119), (63, 64, 65, 66)]:
        x0, y0, x1, y1 = box
        assert (raster.read(box) == whole.pixels[y0:y1, x0:x1]).all()
    raster.close()
    if kind == "rgba":
        a = ALPHA[..., None] / 255
        assert np.abs(whole.pixels - (COLOUR * a + 255 * (1 - a))).max() <= 1


def test_16_bit_opacity_lies_over_white_and_has_its_full_range() -> None:
    deep = np.dstack([COLOUR, ALPHA]).astype(np.uint16) << 8
    options: dict[str, Any] = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    expected = read(tiff(np.dstack([COLOUR, ALPHA]), **options)).pixels
    assert np.abs(read(tiff(deep, **options)).pixels.astype(int) - expected).max() <= 1
    # Dark colours under a mask: what is transparent has no part in the stretch.
    dark = np.dstack([COLOUR.astype(np.uint16) * 8, np.full_like(GREY, 65535, np.uint16)])
    dark[:20] = 0
    found = read(tiff(dark, **options)).pixels
    assert (found[:20] == 255).all()
    assert np.ptp(found[20:]) == 255


def test_a_profile_of_16_bits_is_converted() -> None:
    red = np.zeros((8, 8, 3), np.uint16)
    red[..., 0] = 65535
    found = read(tiff(red, photometric="rgb", iccprofile=swapped_profile()))
    assert found.pixels[0, 0] == pytest.approx([0, 255, 0], abs=8)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_packed_without_gaps(bits: int) -> None:
    values = (GREY.astype(np.uint16) << (bits - 8)) + 1
    found = read(tiff(values, bitspersample=bits)) if bits != 14 else None
    if found is not None:
        assert np.abs(found.pixels[..., 0].astype(int) - GREY).max() <= 1


def test_orientation_and_big_endian_of_deep_images() -> None:
    values = (np.rot90(COLOUR).astype(">u2")) * 257
    orientation = [(274, "H", 1, 6, True)]
    data = tiff(values, photometric="rgb", byteorder=">", extratags=orientation, bigtiff=True)
    assert (read(data).pixels == COLOUR).all()


def test_a_broken_second_page_does_not_matter() -> None:
    data = bytearray(pages((COLOUR, 0), (SMALL, 0), photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        second = file.pages[1].offset
    struct.pack_into("<H", data, second, 60_000)
    assert (read(bytes(data)).pixels == COLOUR).all()


def test_bands_that_fill_memory_are_refused_by_the_header() -> None:
    values = np.zeros((64, 64, 20), np.float32)
    data = tiff(values, photometric="minisblack", planarconfig="contig", compression="deflate")
    assert decode_image(data, "image", Limits()).width == 64
    with pytest.raises(ImageError, match="20 bands of 327,680 bytes are over the limit of 65,536"):
        decode_image(data, "image", Limits(max_pixels=64 * 64))
