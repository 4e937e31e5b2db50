"""Files that were compressed to be sent, read as if they were not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from typing import IO, cast

DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What reading raises if the compressed data are damaged or cut off."""


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a file, as a stream, of what gzip, bzip2 or xz made of it, or as it is.

    Args:
        file: The file, open for reading from its start on.
    """
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(file)
    return file
