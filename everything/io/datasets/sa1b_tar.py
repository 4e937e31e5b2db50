"""SA-1B's tars, plain or compressed, read once from front to back."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, cast

from everything.core.file_names import is_inside
from everything.errors import InputError
from everything.io.datasets.annotations import AnnotatedImage, read_document
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.datasets.unpacked_images import UnpackedImages
from everything.io.images.sources import SUFFIXES

_MOST = 512 * 2**20  # bytes of one annotation file; SA-1B's largest has some 2 MiB
_HEAD = 64  # bytes that tell an image by its content
_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"Pf",
    b"PF",
)  # fmt: skip


@dataclass
class Sa1bTar:
    """Reads the annotated images of a tar; images inside are unpacked if there is a place for them.

    Attributes:
        file: The tar.
        images: The folder into which images are unpacked; None: not at all.
        tally: Counts what is left out.
        on_progress: Called with how much of the file has been read, in bytes.
        unpacked: Number of images that were unpacked.
        not_unpacked: Number of the other files, which are neither annotations nor images.
    """

    file: Path
    images: Path | None = None
    tally: ReadingTally = field(default_factory=ReadingTally)
    on_progress: Callable[[int], None] = lambda read: None
    unpacked: int = 0
    not_unpacked: int = 0
    _refused: set[str] = field(default_factory=set, init=False)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        """Yield the images, one at a time.

        Raises:
            tarfile.TarError, EOFError, OSError, lzma.LZMAError: The tar is damaged or truncated,
                which tarfile itself may not notice.
        """
        home = None if self.images is None else UnpackedImages(self.images)
        try:
            yield from self._members(home)
        finally:
            if home is not None:
                home.finish()

    def _members(self, home: UnpackedImages | None) -> Iterator[AnnotatedImage]:
        with self.file.open("rb") as raw:
            stream = _Tail(_decompressed(raw))
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
                for member in tar:
                    self.on_progress(raw.tell())
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is None:
                        continue  # folders; links are never followed
                    name = member.name.removeprefix("./")
                    if not is_inside(name):
                        self.tally.refuse_image(
                            f"{self.file}: {member.name}", "leads out of the folder"
                        )
                    elif name.endswith(".json"):
                        yield from self._annotations(content, name, member.size)
                    elif home is not None:
                        self._unpack(content, name, home)
            if not stream.ends_with_zeros():
                raise tarfile.ReadError("the tar is truncated")

    def _annotations(self, content: IO[bytes], name: str, size: int) -> Iterator[AnnotatedImage]:
        """Yield what one JSON file has, or count why it cannot be read. The image is beside it."""
        try:
            if size > _MOST:
                raise InputError(f"{name}: {size:,} bytes are over the limit of {_MOST:,}")
            try:
                document = json.loads(content.read())
            except (ValueError, RecursionError) as error:
                raise InputError(f"{name}: not SA-1B's JSON ({error})") from error
            result = read_document(document, name.removesuffix(".json"), self.tally)
        except InputError as error:
            self.tally.refuse_image(str(self.file), str(error))
        else:
            beside = name.rpartition("/")[0]
            image = "/".join(part for part in (beside, result.name) if part)
            folder = None if image in self._refused else self.images
            yield AnnotatedImage(image, result.size, result.annotations, folder)

    def _unpack(self, content: IO[bytes], name: str, home: UnpackedImages) -> None:
        head = content.read(_HEAD)
        if not _is_image(name, head):
            self.not_unpacked += 1
            self.tally.mention(f"{self.file}: {name}: not unpacked: it is no image")
            return
        try:
            pieces = chain([head], iter(partial(content.read, 2**20), b""))
            self.unpacked += home.put(name, pieces)
        except InputError as error:
            self._refused.add(name)  # its masks are not those of the file that is there
            self.tally.refuse_image(f"{self.file}: {name}", str(error))


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    start = file.read(6)
    file.seek(0)
    # Not by tarfile, which takes a truncated file for a short one.
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(file)
    return file


class _Tail:
    """A stream that remembers its last two blocks, which are zeros in a whole tar."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._last = stream, b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._last = (self._last + data)[-2 * tarfile.BLOCKSIZE :]
        return data

    def ends_with_zeros(self) -> bool:
        while self.read(2**20):
            pass
        return len(self._last) == 2 * tarfile.BLOCKSIZE and not any(self._last)


def _is_image(name: str, head: bytes) -> bool:
    """Tell whether a file is an image by its name, without a hidden part, and by its content."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in path.parts):
        return False
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or is_webp or head[4:8] == b"ftyp"
