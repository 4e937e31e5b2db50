"""Images in tar and zip archives: listed by their headers, read one by one, never unpacked."""

from __future__ import annotations

import logging
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from everything.core.file_names import printable
from everything.errors import InputError
from everything.io.images.sources import Source, has_image_suffix
from everything.io.images.tar_end import TarEnd
from everything.io.storage.locations import Location, opened

ARCHIVES = (".tar", ".zip")
# Of these no member can be read by itself.
COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".lz4", ".7z", ".rar")
UNPACK = "unpack it, or pack them as .tar or .zip"
NOT_A_FILE = -1  # in place of the first byte of a member without content of its own
NO_FILE = (
    "a link or a sparse file in the archive: pack it anew (tar --dereference --hard-dereference)"
)
BROKEN = "the archive is damaged or cut off, images may be missing: get another copy of it"
_PACKED = f"the archive is compressed, its images cannot be read one by one: {UNPACK}"
_SIGNATURES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_BLOCK = 64 * 2**10  # of an archive far away: a header and, seldom, a small image
_CHUNK = 2**18  # bytes
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_SIGNATURE, _SUM_SIGNATURE = b"PK\3\4", b"PK\7\10"
_IN_ZIP64 = 2**32 - 1  # a size that stands elsewhere
_ENCRYPTED, _SUM_FOLLOWS = 1, 8  # flags
_STORED, _DEFLATED = 0, 8  # methods
_log = logging.getLogger(__name__)
_DOS = 0  # a system that an archive was made on


def members(folder: str, name: str, place: Location) -> Iterator[Source]:
    """Yield the images in an archive.

    Args:
        folder: Where the archive is.
        name: What the names of its images begin with.
        place: The archive. If it is broken, it is listed itself in place of what else it holds:
            reading it fails with `why_not_listed`, which is its row.

    Raises:
        InputError: It cannot be opened.
    """
    with _opened(place) as file:
        try:
            found = _in_zip(file) if is_zip(place) else _in_tar(file, str(place))
            for inner, size, start in found:
                if has_image_suffix(inner.rsplit("/", 1)[-1]):
                    yield Source(folder, f"{name}/{inner}", size, str(place), start)
        # NotImplementedError: a zip in several parts.
        except (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, OSError, EOFError):
            yield Source(folder, name, file=str(place))


def _in_tar(file: IO[bytes], where: str) -> Iterator[tuple[str, int, int]]:
    """Name, size and first byte of each file. where: the archive, for messages.

    Links and the like have NOT_A_FILE for their first byte.
    """
    # Not "r:*": of a compressed archive no member could be read by itself.
    end = TarEnd()
    with tarfile.open(fileobj=file, mode="r:", tarinfo=end.header(), ignore_zeros=True) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps them all
            if member.isreg() and not member.issparse():
                yield member.name.removeprefix("./"), member.size, member.offset_data
            elif not member.isdir():
                yield member.name.removeprefix("./"), 0, NOT_A_FILE
    end.check()
    if end.note:
        _log.warning("%s: %s", printable(where), end.note)


def _in_zip(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Name, unpacked size and first byte of the local header of each file."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                name = entry.filename
                if entry.create_system == _DOS:
                    name = name.replace("\\", "/")
                yield name.removeprefix("./"), entry.file_size, entry.header_offset


def why_not_listed(place: Location) -> str:
    """Return why images of an archive are missing, with the way out."""
    with _opened(place) as file:
        return _PACKED if file.read(8).startswith(_SIGNATURES) else BROKEN


def is_zip(place: Location) -> bool:
    """Tell whether an archive is a zip by its name."""
    return place.name.lower().endswith(".zip")


def read_zip_member(place: Location, start: int, most: int) -> bytes:
    """Return the content of a file in a zip archive.

    Args:
        place: The archive.
        start: First byte of its local header.
        most: Bytes that it may have.

    Raises:
        InputError: The archive cannot be opened.
        OSError: It is broken, encrypted, larger, or packed in a way that is not known.
    """
    with _opened(place) as file:
        file.seek(start)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_SIGNATURE):
            raise OSError("the archive is damaged or was changed")
        _, _, flags, method, _, _, crc, packed, _, name, extra = _LOCAL_HEADER.unpack(header)
        if flags & _ENCRYPTED:
            raise OSError("it is encrypted in the archive")
        sum_follows = bool(flags & _SUM_FOLLOWS)
        if packed == _IN_ZIP64 or (method != _DEFLATED and (method != _STORED or sum_follows)):
            return _by_directory(file, start, most)
        file.seek(start + _LOCAL_HEADER.size + name + extra)
        if method == _STORED:
            if packed > most:
                raise OSError(f"it has more than {most:,} bytes")
            content = file.read(packed)
        else:
            content, behind = _inflated(file, None if sum_follows else packed, most)
            if sum_follows:
                behind += file.read(8)
                (crc,) = struct.unpack_from("<I", behind.removeprefix(_SUM_SIGNATURE)[:4].ljust(4))
        if zlib.crc32(content) != crc:
            raise OSError("its checksum in the archive is wrong")
        return content


def _inflated(file: IO[bytes], packed: int | None, most: int) -> tuple[bytes, bytes]:
    """What so many bytes (None: up to their own end) unpack to, and what was read behind them."""
    part, content = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    while not part.eof:
        rest = file.read(_CHUNK if packed is None else min(packed, _CHUNK))
        if not rest:
            raise OSError("the archive is cut off")
        packed = None if packed is None else packed - len(rest)
        while rest and not part.eof:
            try:
                content += part.decompress(rest, _CHUNK)
            except zlib.error as error:
                raise OSError(f"it cannot be unpacked ({error})") from error
            rest = part.unconsumed_tail
            if len(content) > most:
                raise OSError(f"it has more than {most:,} bytes")
    return bytes(content), part.unused_data


def _by_directory(file: IO[bytes], start: int, most: int) -> bytes:
    """The content of a file whose local header does not tell enough, by the archive's directory."""
    try:
        with zipfile.ZipFile(file) as archive:
            entry = next(one for one in archive.infolist() if one.header_offset == start)
            if entry.file_size > most:
                raise OSError(f"it has more than {most:,} bytes")
            return archive.read(entry)
    except (StopIteration, zipfile.BadZipFile, NotImplementedError, zlib.error) as error:
        raise OSError(f"it cannot be unpacked ({error or 'it is not there'})") from error


def _opened(place: Location) -> IO[bytes]:
    try:
        return place.open("rb") if isinstance(place, Path) else opened(place, block_size=_BLOCK)
    except OSError as error:
        raise unreadable(place, error) from error


def unreadable(place: Location, error: OSError) -> InputError:
    """Return the error of an input that cannot be opened."""
    reason = (error.strerror or str(error) or "nothing is there").lower()
    return InputError(f"{printable(str(place))}: {printable(reason)}: give images that exist")
