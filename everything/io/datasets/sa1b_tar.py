"""SA-1B's tars, plain or compressed, read once from front to back."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO

from everything.core.file_names import is_inside
from everything.errors import InputError
from everything.io.datasets.annotations import AnnotatedImage, read_document
from everything.io.datasets.compressed import decompressed
from everything.io.datasets.image_names import image_name, is_of_macos, last_parts
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.datasets.unpacked_images import UnpackedImages
from everything.io.images.sources import SUFFIXES
from everything.io.images.tar_end import TarEnd

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
    _images: set[str] = field(default_factory=set, init=False)  # members that are no JSON

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
            # Not by tarfile, which takes a truncated file for a short one.
            stream, end = decompressed(raw), TarEnd()
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=end.header(), ignore_zeros=True
            ) as tar:
                for member in tar:
                    self.on_progress(raw.tell())
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None:  # no folder; links are never followed
                        yield from self._member(member, content, home)
            end.check()
            if end.note:
                self.tally.mend(end.note)
            while stream.read(2**20):  # checks the sum of what is compressed
                pass

    def _member(
        self, member: tarfile.TarInfo, content: IO[bytes], home: UnpackedImages | None
    ) -> Iterator[AnnotatedImage]:
        name = member.name.removeprefix("./")
        if not is_inside(name):
            self.tally.refuse_image(f"{self.file}: {member.name}", "leads out of the folder")
        elif is_of_macos(name):
            self.not_unpacked += 1
        elif name.endswith(".json"):
            yield from self._annotations(content, name, member.size)
        else:
            self._images.add(name)
            if home is not None:
                self._unpack(content, name, home)

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
            image = self._image(name, result.name)
            folder = None if image in self._refused else self.images
            yield AnnotatedImage(image, result.size, result.annotations, folder)

    def _image(self, name: str, file_name: str) -> str:
        """The image of the JSON file of this name: the member before it that fits, else a guess."""
        beside, own = name.rpartition("/")[0], image_name(file_name)
        prefix = f"{beside}/" if beside else ""
        for part in last_parts(own):
            for place in dict.fromkeys((prefix + part, part)):
                if place in self._images:
                    self.tally.guessed_images += part != own
                    return place
        # SA-1B's file names have no folders; others begin at the top of the archive.
        return own if "/" in own else prefix + own

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


def _is_image(name: str, head: bytes) -> bool:
    """Tell whether a file is an image by its name, without a hidden part, and by its content."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in path.parts):
        return False
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or is_webp or head[4:8] == b"ftyp"
