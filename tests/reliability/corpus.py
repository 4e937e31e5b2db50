"""Thousands of damaged and hostile photo files, made from a few small real ones.

`python -m tests.reliability.corpus --flips 2000` reads them all and prints what became of them.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms

from everything.errors import ImageError
from everything.io.images.decode import DecodedImage, Limits, decode_image
from tests.photos import photo

LIMITS = Limits(max_pixels=10**6)
_END_OF_JPEG = b"\xff\xd9"


class Case(NamedTuple):
    """A file. seed: what it was made from. kind: of damage. damage: which exactly."""

    seed: str
    kind: str
    damage: str
    data: bytes


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """The bytes of a file of that format."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    """One small photo in every format and kind of it."""
    pillow_heif.register_heif_opener()
    pixels = photo("astronaut", 96)
    image, second = Image.fromarray(pixels), Image.fromarray(photo("chelsea", 96)).resize((96, 96))
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010F] = "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = {"save_all": True, "append_images": [second]}
    deep = pixels.astype(np.uint16) * 257
    bands = np.concatenate([pixels, pixels[..., ::-1]], 2)
    rgb = {"photometric": "rgb"}
    return {
        "jpeg": saved(image, "JPEG"),
        "jpeg-progressive": saved(image, "JPEG", progressive=True),
        "jpeg-restarts": saved(image, "JPEG", restart_marker_rows=1),
        "jpeg-grey": saved(image.convert("L"), "JPEG"),
        "jpeg-cmyk": saved(image.convert("CMYK"), "JPEG"),
        "jpeg-exif-icc": saved(image, "JPEG", exif=exif, icc_profile=profile),
        "png": saved(image, "PNG"),
        "png-palette": saved(image.quantize(64), "PNG"),
        "png-16": saved(Image.fromarray(deep[..., 0]), "PNG"),
        "apng": saved(image, "PNG", **frames),
        "webp": saved(image, "WEBP"),
        "webp-lossless": saved(image, "WEBP", lossless=True),
        "webp-animated": saved(image, "WEBP", **frames),
        "tiff": saved(image, "TIFF"),
        "tiff-lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff-tiled": _tiff(pixels, tile=(32, 32), **rgb),
        "tiff-tiled-deflate": _tiff(pixels, tile=(32, 32), compression="deflate", **rgb),
        "tiff-16": _tiff(deep, **rgb),
        "tiff-bands": _tiff(bands, photometric="minisblack", planarconfig="contig"),
        "bigtiff-deflate": _tiff(bands, bigtiff=True, compression="deflate", **rgb),
        "heic": saved(image, "HEIF"),
        "avif": saved(image, "AVIF"),
        "gif": saved(image, "GIF"),
        "gif-animated": saved(image, "GIF", **frames),
        "bmp": saved(image, "BMP"),
        "ppm": saved(image, "PPM"),
        "jpeg2000": saved(image, "JPEG2000"),
    }


def damaged(flips: int) -> Iterator[Case]:
    """Yield every seed cut, flipped, zeroed and shortened, always the same."""
    for name in seeds():
        seen = {seeds()[name]}
        for case in (*_cut(name), *_flipped(name, flips), *_holed(name, flips // 5)):
            if case.data not in seen:
                seen.add(case.data)
                yield case


def _cut(name: str) -> Iterator[Case]:
    data = seeds()[name]
    for percent in range(5, 100, 5):
        yield Case(name, "cut", f"at {percent} %", data[: len(data) * percent // 100])
    for last in (1, 2, 4, 16):
        yield Case(name, "cut", f"{last} bytes before its end", data[:-last])
    if name.startswith("jpeg") and name != "jpeg2000":
        for percent in range(10, 100, 10):
            kept = data[: len(data) * percent // 100] + _END_OF_JPEG
            yield Case(name, "cut", f"at {percent} % and closed", kept)


def _flipped(name: str, count: int) -> Iterator[Case]:
    rng = random.Random(name)
    for _ in range(count):
        changed = bytearray(seeds()[name])
        place, bit = rng.randrange(len(changed)), rng.randrange(8)
        changed[place] ^= 1 << bit
        yield Case(name, "bit", f"{bit} of byte {place}", bytes(changed))


def _holed(name: str, count: int) -> Iterator[Case]:
    rng, data = random.Random(f"holes {name}"), seeds()[name]
    for _ in range(count):
        at = rng.randrange(len(data) - 16)
        yield Case(name, "hole", f"8 bytes missing at {at}", data[:at] + data[at + 8 :])
        yield Case(name, "hole", f"zeros at {at}", data[:at] + bytes(16) + data[at + 16 :])


@cache
def undamaged(name: str) -> DecodedImage:
    """The photo in a seed."""
    return decode_image(seeds()[name], name, LIMITS)


def outcome(case: Case) -> str:
    """Read a case: "error", "noted", "same" as without damage, or "silent"."""
    try:
        photo = decode_image(case.data, "photo", LIMITS)
    except ImageError as error:
        one_line = len(str(error).splitlines()) == 1 and str(error).startswith("photo: ")
        return "error" if one_line else f"not a line: {error}"
    before = undamaged(case.seed)
    if np.array_equal(photo.pixels, before.pixels):
        return "same"
    return "noted" if set(photo.notes) - set(before.notes) else "silent"


def _row(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[what]:,}" for what in ("error", "noted", "same", "silent"))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=2000, help="bits flipped in each seed")
    flips = parser.parse_args().flips
    cuts: dict[str, Counter[str]] = {name: Counter() for name in seeds()}
    others: dict[str, Counter[str]] = {name: Counter() for name in seeds()}
    slowest, began = 0.0, time.perf_counter()
    for case in damaged(flips):
        start = time.perf_counter()
        counts = cuts if case.kind == "cut" else others
        counts[case.seed][outcome(case)] += 1
        slowest = max(slowest, time.perf_counter() - start)
    print(
        "| | cut short: error, noted, same pixels, silent | changed: error, noted, same, silent |"
    )
    print("|---|---|---|")
    for name in seeds():
        print(f"| {name} | {_row(cuts[name])} | {_row(others[name])} |")
    total = sum(of.total() for of in (*cuts.values(), *others.values()))
    seconds = time.perf_counter() - began
    print(f"\n{total:,} files, {seconds:.0f} s, the slowest {slowest * 1000:.0f} ms")


if __name__ == "__main__":
    _main()
