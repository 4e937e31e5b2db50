"""Images as ultralytics' loader sees them: under which names, in which formats, of which size."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

from PIL import Image

from everything.errors import ImageError
from everything.export.originals import Original
from everything.export.writer import ExportJob, LabelledImage
from everything.io.images.decode import opened_image

_LEAST = 10  # px of a side; ultralytics ignores smaller images
# What cv2 decodes as it was labelled, by Pillow's format, and the suffix that ultralytics knows.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg", ".mpo"), "PNG": (".png",),
    "BMP": (".bmp",), "WEBP": (".webp",),
}  # fmt: skip
_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}  # 8 bits or fewer
_JPEG_END = b"\xff\xd9"


class YoloStems:
    """The names of images without suffix, so that ultralytics finds each one's labels.

    It replaces the last folder called `images` in a path by `labels`, and does not look into hidden
    folders.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, image: LabelledImage) -> str:
        """Return the name of an image, different from those of all others before."""
        parts = [_visible(part) for part in PurePosixPath(image.stem).parts]
        stem = "/".join([*(f"{p}_" if p == "images" else p for p in parts[:-1]), parts[-1]])
        while stem.casefold() in self._taken:
            stem += "_"
        self._taken.add(stem.casefold())
        return stem


def _visible(part: str) -> str:
    return f"_{part[1:]}" if part.startswith(".") else part


def place(image: LabelledImage, stem: str, job: ExportJob) -> bool:
    """Place an image so that ultralytics sees it as it was labelled; tell whether that worked."""
    original = job.original(image)
    if original is None:
        return False
    if min(image.size) < _LEAST:
        job.fidelity.images_refused += 1
        job.fidelity.mention(image.name, f"smaller than {_LEAST} px, which ultralytics ignores")
        return False
    if (suffix := _readable_suffix(original, image)) is not None:
        is_whole = suffix not in _SUFFIXES["JPEG"] or _ends_whole(original)
        # ultralytics repairs JPEGs without an end marker in place: not through a link.
        return job.place_original(original, f"images/{stem}{suffix}", copy=not is_whole)
    try:
        pixels = original.decoded.pixels
    except ImageError as error:
        job.fidelity.images_not_found += 1
        job.fidelity.mention(image.name, str(error))
        return False
    Image.fromarray(pixels).save(job.file(f"images/{stem}.png"))
    job.fidelity.images_converted += 1
    return True


def _readable_suffix(original: Original, image: LabelledImage) -> str | None:
    """Return a suffix under which ultralytics reads the file as it was labelled, if any."""
    header = original.header
    if header is None or header.size != image.size or header.mode not in _MODES:
        return None
    suffixes = _SUFFIXES.get(header.format)
    if suffixes is None:
        return None
    if header.format not in ("JPEG", "MPO") and (header.orientation != 1 or header.frames > 1):
        return None  # cv2 knows orientation in JPEG only, and is not sure of the first frame
    if not _is_verified(original):
        return None
    own = PurePosixPath(image.name).suffix
    return own if own.lower() in suffixes else suffixes[0]


def _is_verified(original: Original) -> bool:
    """Tell whether Pillow's own check, which is ultralytics', finds the file whole."""
    try:
        file = io.BytesIO(original.content) if original.path is None else original.path
        with opened_image(file) as image:
            image.verify()
    except Exception:  # Pillow raises anything
        return False
    return True


def _ends_whole(original: Original) -> bool:
    if original.path is None:
        return original.content.endswith(_JPEG_END)
    with original.path.open("rb") as file:
        file.seek(-len(_JPEG_END), 2)
        return file.read() == _JPEG_END
