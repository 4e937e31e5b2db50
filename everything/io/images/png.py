"""PNGs with damage that costs no pixel: a wrong checksum elsewhere, or no end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
# Chunks that say something about the image, or hold later frames. Not PLTE and tRNS: they decide
# pixels. Not unknown ones: what is damaged may be the name of a chunk with pixels.
_WITHOUT_PIXELS = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT tIME tEXt zTXt iTXt eXIf oFFs "
    b"pCAL sCAL sTER gIFg gIFx dSIG acTL fcTL fdAT vpAg orNT caNv iDOT".split()
)


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int  # behind its checksum


def mended(data: bytes, notes: list[str]) -> bytes:
    """Return the content of a PNG as libpng and browsers read it.

    Chunks that have nothing to do with pixels are left out if their checksum is wrong. A missing
    end is added; decoding then tells whether all rows are there.

    Args:
        data: The content; what is wrong elsewhere stays as it is.
        notes: Gets what was mended.
    """
    left_out: list[str] = []
    kept, start, last = [], 0, _Chunk(b"", 0, len(SIGNATURE))
    has_pixels = False
    for last in _chunks(data):
        is_end, has_pixels = last.kind == b"IEND", has_pixels or last.kind == b"IDAT"
        if (is_end or last.kind in _WITHOUT_PIXELS) and not _is_whole(data, last):
            left_out.append(last.kind.decode("ascii"))
            kept += [data[start : last.start], _END if is_end else b""]
            start = last.end
    if left_out:
        named = ", ".join(dict.fromkeys(left_out))
        notes.append(f"wrong checksum in a chunk without pixels, which is left out: {named}")
    pixels = _cut_off(data[last.end :])
    if last.kind != b"IEND" and (has_pixels or pixels):
        kept += [data[start : last.end], *pixels, _END]
        start = len(data)
        notes.append("its end (IEND) is missing, all of its rows are there")
    return b"".join([*kept, data[start:]]) if kept else data


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks up to the end, or up to where the file is cut off or goes on with junk."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or not kind.isalpha():
            return
        yield _Chunk(kind, at, end)
        if kind == b"IEND":
            return
        at = end


def _is_whole(data: bytes, chunk: _Chunk) -> bool:
    expected: int = struct.unpack_from(">I", data, chunk.end - 4)[0]
    return zlib.crc32(memoryview(data)[chunk.start + 4 : chunk.end - 4]) == expected


def _cut_off(rest: bytes) -> list[bytes]:
    """What there is of a chunk of pixels in which a file is cut off, as a chunk of its own."""
    if rest[4:8] != b"IDAT":
        return []
    (length,) = struct.unpack_from(">I", rest)
    content = rest[4 : 8 + length]
    return [struct.pack(">I", len(content) - 4), content, struct.pack(">I", zlib.crc32(content))]
