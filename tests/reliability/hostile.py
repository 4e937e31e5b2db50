"""Files made to break a reader: headers that lie, bombs, and what only has a photo's name."""

from __future__ import annotations

import io
import struct
import zlib
from typing import NamedTuple

import pillow_heif
from PIL import Image, PngImagePlugin

from tests.reliability.corpus import saved, seeds

OVER = "px are over the limit"
UNKNOWN = "not an image in a known format"
BROKEN = "cannot be decoded"
PHOTO = ""


class Hostile(NamedTuple):
    """A file's content. expected: part of its error, "" if it is a photo all the same."""

    name: str
    data: bytes
    expected: str


def hostile() -> list[Hostile]:
    """Return them all, each a few kB, one of them of some MB."""
    made = [*_no_photos(), *_sizes(), *_bombs(), *_metadata(), *_loops()]
    return [Hostile(*entry) for entry in made]


def _no_photos() -> list[tuple[str, bytes, str]]:
    return [
        ("empty.jpg", b"", "the file is empty"),
        ("one-byte.jpg", b"\xff", UNKNOWN),
        ("zeros.jpg", bytes(4096), UNKNOWN),
        ("text.jpg", b"not a photo\n" * 99, UNKNOWN),
        ("page.jpg", b"<!doctype html><title>404</title>", UNKNOWN),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNKNOWN),
        ("printer.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNKNOWN),
        ("document.tif", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", UNKNOWN),
        ("archive.jpg", b"PK\3\4" + bytes(60), UNKNOWN),
        ("film.heic", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", UNKNOWN),
        ("program.png", b"\x7fELF" + bytes(60), UNKNOWN),
        ("start.jpg", b"\xff\xd8\xff\xe0", UNKNOWN),
        ("start.tif", b"II*\0\x08\0\0\0", BROKEN),
        ("start.heic", b"\0\0\0\x18ftypheic\0\0\0\0", UNKNOWN),
        ("really a png.jpg", seeds()["png"], PHOTO),
        ("really a heic.png", seeds()["heic"], PHOTO),
    ]


def _sizes() -> list[tuple[str, bytes, str]]:
    """Sizes in headers: true and thin, or false and huge."""
    jpeg, gif, bmp = (bytearray(seeds()[name]) for name in ("jpeg", "gif", "bmp"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 60_000, 60_000)
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    bmp[18:26] = struct.pack("<ii", 60_000, -60_000)
    huge = {256: 60_000, 257: 60_000}
    return [
        ("1 x 60000.png", saved(Image.new("RGB", (1, 60_000)), "PNG"), PHOTO),
        ("60000 x 1.jpg", saved(Image.new("RGB", (60_000, 1)), "JPEG"), PHOTO),
        ("60000 x 1.tif", saved(Image.new("RGB", (60_000, 1)), "TIFF"), PHOTO),
        ("huge.png", png(60_000, 60_000), OVER),
        ("none.png", png(0, 10), UNKNOWN),
        ("huge.jpg", bytes(jpeg), OVER),
        ("huge.gif", bytes(gif), OVER),
        ("huge.bmp", bytes(bmp), OVER),
        ("huge.tif", _retagged(seeds()["tiff"], huge), OVER),
        ("huge planes.tif", _retagged(seeds()["tiff-bands"], huge), OVER),
        ("huge.ppm", b"P6 60000 60000 255 ", OVER),
        ("more than numbers.ppm", b"P6 " + b"9" * 400 + b" 1 255 ", BROKEN),
        ("huge.jp2", _overwritten(seeds()["jpeg2000"], b"ihdr", 60_000), OVER),
        ("huge.heic", _overwritten(seeds()["heic"], b"ispe\0\0\0\0", 60_000), OVER),
        ("huge.avif", _overwritten(seeds()["avif"], b"ispe\0\0\0\0", 60_000), UNKNOWN),
    ]


def _bombs() -> list[tuple[str, bytes, str]]:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 100_000_000, zip=True)
    dot = Image.new("L", (4, 4))
    gigabyte = _deflated_gigabyte()
    progressive = saved(Image.new("RGB", (900, 900), "red"), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    slow = progressive[:-2] + scan * 5000 + progressive[-2:]
    return [
        ("text bomb.png", saved(dot, "PNG", pnginfo=text), BROKEN),
        ("pixel bomb.png", png(4, 4, gigabyte), PHOTO),
        ("pixel bomb.tif", _tiff_of(gigabyte), BROKEN),
        (
            "profile bomb.png",
            png(4, 4, zlib.compress(bytes(52)), b"iCCP", b"x\0\0" + gigabyte),
            BROKEN,
        ),
        ("scans.jpg", slow, "5010 scans"),
    ]


def _metadata() -> list[tuple[str, bytes, str]]:
    """Much of it, or broken: photos live without it."""
    jpeg, heic = seeds()["jpeg"], io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(heic, exif=b"Exif\0\0garbage")
    exif = [b"", b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", bytes(900)]
    made = [
        (f"exif {number}.jpg", _with_segment(jpeg, 0xE1, b"Exif\0\0" + body), PHOTO)
        for number, body in enumerate(exif)
    ]
    itself = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + b"\x08\0\0\0"
    profile = b"ICC_PROFILE\0\1\1" + b"\0\0\x02\x0clcms" + b"\xff" * 200
    return [
        *made,
        ("exif in itself.jpg", _with_segment(jpeg, 0xE1, b"Exif\0\0" + itself), PHOTO),
        ("profile.jpg", _with_segment(jpeg, 0xE2, profile), PHOTO),
        ("many frames.jpg", _with_segment(jpeg, 0xE2, b"MPF\0II*\0\xff\xff\xff\xff"), PHOTO),
        ("9 MB of comments.jpg", _with_segment(jpeg, 0xFE, b"\xff\xda" * 30_000, 150), PHOTO),
        ("exif.heic", heic.getvalue(), PHOTO),
        ("16 bit.png", seeds()["png-16"], PHOTO),
        ("inks.jpg", seeds()["jpeg-cmyk"], PHOTO),
        ("moving.gif", seeds()["gif-animated"], PHOTO),
        ("moving.png", seeds()["apng"], PHOTO),
        ("moving.webp", seeds()["webp-animated"], PHOTO),
        ("tail.jpg", jpeg + b"\0" * 9999, PHOTO),
    ]


def _loops() -> list[tuple[str, bytes, str]]:
    """Directories of TIFFs that lead to themselves, or far away."""
    tiff = bytearray(seeds()["tiff"])
    start = struct.unpack_from("<I", tiff, 4)[0]
    entries = struct.unpack_from("<H", tiff, start)[0]
    end = start + 2 + 12 * entries
    endless = tiff[:end] + struct.pack("<I", start) + tiff[end + 4 :]
    far = tiff[:4] + struct.pack("<I", 0xFFFFFFF0) + tiff[8:]
    many = tiff[:start] + b"\xff\xff" + tiff[start + 2 :]
    return [
        ("endless.tif", bytes(endless), PHOTO),
        ("far.tif", bytes(far), BROKEN),
        ("many tags.tif", bytes(many), PHOTO),
        ("no pixels.tif", _retagged(bytes(tiff), {273: 0xFFFFFF00}), BROKEN),
    ]


def png(width: int, height: int, idat: bytes = b"", kind: bytes = b"", body: bytes = b"") -> bytes:
    """A PNG, RGB, with any content and perhaps another chunk before it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checked = kind + body
        return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    extra = chunk(kind, body) if kind else b""
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def _deflated_gigabyte() -> bytes:
    packer, zeros = zlib.compressobj(9), bytes(2**20)
    head = b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush(zlib.Z_FULL_FLUSH)
    once = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + once * 960


def _tiff_of(deflated: bytes) -> bytes:
    """4 x 4 px in a strip of any length."""
    data = bytearray(saved(Image.new("RGB", (4, 4)), "TIFF", compression="tiff_adobe_deflate"))
    at = len(data)
    return _retagged(bytes(data), {273: at, 279: len(deflated)}) + deflated


def _retagged(data: bytes, values: dict[int, int]) -> bytes:
    """A TIFF, little-endian and not Big, in which some tags have other single values."""
    changed = bytearray(data)
    start = struct.unpack_from("<I", changed, 4)[0]
    for entry in range(struct.unpack_from("<H", changed, start)[0]):
        at = start + 2 + 12 * entry
        code = struct.unpack_from("<H", changed, at)[0]
        if code in values:
            struct.pack_into("<HII", changed, at + 2, 4, 1, values[code])
    return bytes(changed)


def _overwritten(data: bytes, after: bytes, value: int) -> bytes:
    """Two big-endian numbers after a mark are replaced."""
    at = data.index(after) + len(after)
    return data[:at] + struct.pack(">II", value, value) + data[at + 8 :]


def _with_segment(jpeg: bytes, marker: int, body: bytes, times: int = 1) -> bytes:
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    return jpeg[:2] + segment * times + jpeg[2:]
