"""The image files of an export, compared with the images that were labelled."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from everything.core.geometry import Size
from everything.errors import ImageError
from everything.export.fidelity import Fidelity
from everything.io.images.decode import DecodedImage, Limits, decode_image
from everything.io.images.fetch import read_source
from everything.io.images.header import Header, read_header
from everything.io.images.sources import Source
from everything.io.images.tiff_regions import open_tiff


@dataclass(frozen=True)
class Original:
    """The file of a labelled image, read at most once.

    Attributes:
        source: Where it is.
    """

    source: Source

    @property
    def path(self) -> Path | None:
        """The file, if it is one on disk and not a part of an archive."""
        place = self.source.location
        return place if self.source.start is None and isinstance(place, Path) else None

    @cached_property
    def content(self) -> bytes:
        """The bytes of the image file; raises ImageError."""
        return read_source(self.source, Limits())

    @cached_property
    def header(self) -> Header | None:
        """The image's header, None if only decoding tells; raises ImageError."""
        return read_header(self.content if self.path is None else self.path)

    @cached_property
    def decoded(self) -> DecodedImage:
        """The image as it is labelled; raises ImageError."""
        return decode_image(self.content, self.source.printable, Limits())

    def has_size(self, size: Size) -> bool:
        """Tell whether the image is of (H, W) px; raises ImageError."""
        if self.header is not None and self.header.size == size:
            return True
        raster = None if self.path is None else open_tiff(self.path, larger_than=0)
        if raster is not None:
            with closing(raster):
                return raster.size == size
        pixels = self.decoded.pixels
        return (pixels.shape[0], pixels.shape[1]) == size


def usable(
    source: Source | None, name: str, size: Size, fidelity: Fidelity, is_placed: bool
) -> Original | None:
    """Return the file of an image if it is the one that was labelled, or count why it is not.

    Args:
        source: Where the image is, None if it was not found.
        name: The image, for messages.
        size: (H, W) in px that was labelled.
        fidelity: Counts.
        is_placed: Whether the image is to be placed in the export. If not, only images on disk
            whose headers tell their size are compared, and missing ones are not counted.
    """
    if source is None:
        if is_placed:
            fidelity.images_not_found += 1
            fidelity.mention(name, "not found")
        return None
    original = Original(source)
    if not is_placed and (original.path is None or original.header is None):
        return None
    try:
        if original.has_size(size):
            return original
        fidelity.images_changed += 1
        fidelity.mention(name, f"not {size[1]} x {size[0]} px any more, as labelled")
    except ImageError as error:
        if is_placed:
            fidelity.images_not_found += 1
            fidelity.mention(name, str(error))
    return None
