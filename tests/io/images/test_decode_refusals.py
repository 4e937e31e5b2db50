from __future__ import annotations

import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from everything.errors import EverythingError, ImageError
from everything.io.images.decode import Limits, read_image
from tests.fakes import as_nobody
from tests.io.images.test_decode import encoded, picture, read, reason


def png_of(width: int, height: int) -> bytes:
    """The header of a PNG of that size, without the pixels it speaks of."""
    pixel = encoded(Image.new("RGB", (1, 1)), "PNG")
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return pixel[:12] + body + struct.pack(">I", zlib.crc32(body)) + pixel[33:]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty"),
        (b"\0", "not an image in a known format"),
        (b"GIF89a", "not an image in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
        (b"\xff\xd8\xff\xe0", "not an image in a known format"),
        (b"II*\0\x08\0\0\0", "cannot be decoded"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "not an image in a known format"),
        (png_of(60_000, 60_000), "60000 x 60000 px are over the limit of 300,000,000 px"),
        (png_of(0, 10), "not an image in a known format"),
        (png_of(10, 10), "cannot be decoded"),
    ],
)
def test_bad_content(data: bytes, expected: str) -> None:
    assert expected in reason(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "HEIF"])
def test_truncated_files_are_errors(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries set it
    pillow_heif.register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), format)
    for percent in range(5, 100, 5):
        reason(data[: len(data) * percent // 100])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_truncated_tiff_of_many_bands() -> None:
    buffer = io.BytesIO()
    values = np.zeros((32, 32, 6), np.uint8)
    tifffile.imwrite(buffer, values, photometric="minisblack", planarconfig="contig")
    data = buffer.getvalue()
    for percent in range(5, 100, 5):
        reason(data[: len(data) * percent // 100])


def test_flipped_bits_in_a_png_are_noticed() -> None:
    data = bytearray(encoded(Image.fromarray(picture()), "PNG", compress_level=0))
    data[len(data) // 2] ^= 1
    assert "cannot be decoded" in reason(bytes(data))


def test_size_limits_come_from_the_header() -> None:
    data = encoded(Image.new("1", (20_000, 10_000)), "PNG")  # 200 MP in a few kB
    start = time.perf_counter()
    assert "over the limit of 199,999,999 px" in reason(data, Limits(max_pixels=199_999_999))
    assert time.perf_counter() - start < 0.5


def test_pillow_s_own_limit_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read(encoded(Image.fromarray(picture()), "PNG")).shape == picture().shape
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_compressed_text_bomb_in_a_png() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 100_000_000, zip=True)
    assert "cannot be decoded" in reason(encoded(Image.new("L", (4, 4)), "PNG", pnginfo=text))


def in_folder(path: Path) -> None:
    path.mkdir()


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_loop(path: Path) -> None:
    path.symlink_to(path)


def as_dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def as_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "no such file or directory"),
        (in_folder, "it is a folder"),
        (as_fifo, "it is not a regular file"),
        (as_device, "it is not a regular file"),
        (as_loop, "too many levels of symbolic links"),
        (as_dangling, "no such file or directory"),
        (as_sparse, "1,099,511,627,776 bytes are over the limit"),
    ],
)
def test_bad_files(tmp_path: Path, make: Callable[[Path], None], expected: str) -> None:
    path = tmp_path / "a.jpg"
    make(path)
    with pytest.raises(ImageError, match=expected) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_unreadable_file() -> None:
    with as_nobody() as folder:
        (folder / "a.jpg").write_bytes(b"x")
        (folder / "a.jpg").chmod(0)
        with pytest.raises(ImageError, match=r"a.jpg: permission denied"):
            read_image(folder / "a.jpg")


def test_names_are_shown_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"two\nlines \xff.jpg")
    path.write_bytes(b"")
    with pytest.raises(EverythingError) as caught:
        read_image(path)
    assert r"two\nlines \xff.jpg: the file is empty: get another copy of it" in str(caught.value)
    str(caught.value).encode()  # valid Unicode


def test_threads_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(Image.fromarray(picture()), "PNG")
    with ThreadPoolExecutor(4) as pool:
        assert all((pixels == picture()).all() for pixels in pool.map(read, [data] * 64))
    assert Image.MAX_IMAGE_PIXELS == 10


SEEDS = [
    encoded(Image.fromarray(picture(8, 8)), format)
    for format in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP")
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_bytes_never_crash(seed: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    with suppress(ImageError):
        read(bytes(data), Limits(max_pixels=10**6))
