"""PNGs with a wrong checksum where no pixels are."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
# Chunks that say something about the image, or hold later frames. Not PLTE and tRNS: they decide
# pixels. Not unknown ones: what is damaged may be the name of a chunk with pixels.
_WITHOUT_PIXELS = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT tIME tEXt zTXt iTXt eXIf oFFs "
    b"pCAL sCAL sTER gIFg gIFx dSIG acTL fcTL fdAT vpAg orNT caNv iDOT".split()
)


def without_damaged_chunks(data: bytes, notes: list[str]) -> bytes:
    """Return the content of a PNG without the chunks whose checksum is wrong and that have nothing
    to do with its pixels, as libpng and browsers leave them out.

    Args:
        data: The content; what is wrong elsewhere stays as it is.
        notes: Gets the names of the chunks.
    """
    left_out: list[str] = []
    kept, start, at = [], 0, len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            break
        is_end = kind == b"IEND"
        if is_end or kind in _WITHOUT_PIXELS:
            (expected,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != expected:
                left_out.append(kind.decode("ascii"))
                kept += [data[start:at], _END if is_end else b""]
                start = end
        if is_end:
            break
        at = end
    if not left_out:
        return data
    named = ", ".join(dict.fromkeys(left_out))
    notes.append(f"wrong checksum in a chunk without pixels, which is left out: {named}")
    return b"".join([*kept, data[start:]])
