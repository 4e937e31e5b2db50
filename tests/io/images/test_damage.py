"""Damage that costs no pixel: read, with a note."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from everything.io.images.decode import Limits, decode_image
from tests.io.images.test_decode import encoded, notes, picture, png_16_bit, read, reason
from tests.photos import photo


def png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "of a camera")
    text.add(b"gAMA", struct.pack(">I", 45455))
    text.add(b"abCd", b"a private one")
    palette = Image.fromarray(picture()).quantize(16)
    return encoded(palette, "PNG", pnginfo=text, transparency=3, dpi=(72, 72))


def damaged(data: bytes, kind: bytes, place: int) -> bytes:
    """The PNG with a byte of that chunk changed. place: from its content, negative in its sum."""
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    changed = bytearray(data)
    changed[at + 4 + (length + 3 if place < 0 else place)] ^= 0x20
    return bytes(changed)


@pytest.mark.parametrize("place", [-1, 0])
@pytest.mark.parametrize("kind", [b"tEXt", b"gAMA", b"pHYs"])
def test_a_wrong_checksum_where_no_pixels_are(kind: bytes, place: int) -> None:
    data = damaged(png(), kind, place)
    assert (read(data) == read(png())).all()
    assert "wrong checksum in a chunk without pixels" in notes(data)
    assert kind.decode() in notes(data)
    assert notes(png()) == ""


def test_a_wrong_checksum_at_the_end_and_in_several_chunks() -> None:
    data = damaged(damaged(damaged(png(), b"IEND", -1), b"tEXt", -1), b"gAMA", -1)
    assert (read(data) == read(png())).all()
    assert all(kind in notes(data) for kind in ("tEXt", "gAMA", "IEND"))


@pytest.mark.parametrize("place", [-1, 1])
@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"tRNS", b"abCd", b"IHDR"])
def test_a_wrong_checksum_where_pixels_are_is_an_error(kind: bytes, place: int) -> None:
    reason(damaged(png(), kind, place))


def test_the_name_of_a_chunk_with_pixels_may_be_what_is_damaged() -> None:
    values = np.random.default_rng(0).integers(0, 65535, (24, 40, 3)).astype(np.uint16)
    data = png_16_bit(values).replace(b"IDAT", b"iDAT")
    reason(data)


@pytest.mark.parametrize(
    ("missing", "behind"),
    [(12, b""), (11, b""), (8, b""), (4, b""), (1, b""), (12, bytes(40)), (12, b"junk of a disk")],
)
def test_a_png_without_its_end(missing: int, behind: bytes) -> None:
    for data in (png(), png_16_bit(np.arange(24 * 40 * 3, dtype=np.uint16).reshape(24, 40, 3))):
        cut = data[:-missing] + behind
        assert (read(cut) == read(data)).all()
        assert "IEND" in notes(cut)


def test_a_png_that_is_cut_off_in_a_checksum_or_before_its_last_rows() -> None:
    data = encoded(Image.fromarray(photo("coffee", 120)), "PNG")
    for missing in (13, 16):  # of its last chunk of pixels
        assert (read(data[:-missing]) == read(data)).all()
    for missing in (200, 2000, len(data) // 2, len(data) - 70):
        assert "cannot be decoded" in reason(data[:-missing])
    reason(damaged(data, b"IDAT", 1)[:-12])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_end_marker(mode: str, progressive: bool, missing: int) -> None:
    image = Image.fromarray(photo("coffee", 120)).convert(mode)
    data = encoded(image, "JPEG", progressive=progressive)
    found = decode_image(data[:-missing], "image", Limits())
    assert (found.pixels == read(data)).all()
    assert found.notes == ("its end marker is missing, all of its rows are there",)
    assert notes(data) == ""


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_whose_rows_are_missing_is_an_error(mode: str) -> None:
    data = encoded(Image.fromarray(photo("coffee", 120)).convert(mode), "JPEG")
    for missing in (40, 200, len(data) // 2):
        assert "cannot be decoded" in reason(data[:-missing])
