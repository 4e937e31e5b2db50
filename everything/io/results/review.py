"""A person's review of masks: the JSON file that the report page saves and loads.

    {"format": "everything-review", "version": 1, "labels": "labels", "images": [
      {"file_name": "a/cat.jpg", "width": 640, "height": 480, "verdict": "accepted", "tag": "dusk",
       "masks": [{"id": 3, "crc32": "0f3a77b2", "area": 5120, "verdict": "rejected"},
                 {"id": 7, "crc32": "90ce11d4", "area": 812, "tag": "cat"}]}]}

`verdict` is "accepted" or "rejected"; it, `tag` and `masks` may be missing. `crc32` is that of the
text "HEIGHT WIDTH COUNTS", the mask's size and COCO run-length code, as 8 hexadecimal digits: a
verdict belongs to pixels, so that it never falls on another mask of labels that were made again.
`annotation` is there where several images can have one name: SA-1B's file without `.json`.
`source_hash` is that of the image's content in the manifest, as 16 hexadecimal digits, where it is
known: what was said of an image is not said of another one that has its name and size.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from everything.core.file_names import printable
from everything.core.geometry import Size
from everything.core.rle import Rle
from everything.core.sa1b import Annotation
from everything.errors import InputError, reason_of

FORMAT, VERSION = "everything-review", 1
Verdict = Literal["accepted", "rejected"]
_Tag = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)

    verdict: Verdict | None = None
    tag: _Tag | None = None


class MaskReview(_Part):
    """The verdict and tag of one mask, which is told by its fingerprint and area."""

    id: StrictInt
    crc32: Annotated[StrictStr, Field(pattern="^[0-9a-f]{8}$")]
    area: StrictInt


class ImageReview(_Part):
    """The verdict and tag of one image, and those of its masks."""

    file_name: StrictStr
    annotation: StrictStr | None = None
    width: StrictInt
    height: StrictInt
    source_hash: StrictStr | None = None
    masks: tuple[MaskReview, ...] = ()

    @property
    def key(self) -> str:
        """Name of the image's result, as `printable` gives it."""
        return self.file_name if self.annotation is None else self.annotation

    def matches(self, annotations: Sequence[Annotation]) -> dict[int, MaskReview]:
        """Return what was said of each mask of the image, by its row.

        A verdict belongs to the mask with its pixels; of several with equal pixels to the one with
        its id, or to the first that no other verdict has.
        """
        rows = defaultdict[tuple[str, int], list[int]](list)
        for row, one in enumerate(annotations):
            rows[fingerprint(one["segmentation"]), int(one["area"])].append(row)
        ids = [int(one.get("id", row)) for row, one in enumerate(annotations)]
        found: dict[int, MaskReview] = {}
        left = list(self.masks)
        for by_id in (True, False):
            rest = []
            for mask in left:
                free = (row for row in rows[mask.crc32, mask.area] if row not in found)
                fits = next((row for row in free if not by_id or ids[row] == mask.id), None)
                if fits is None:
                    rest.append(mask)
                else:
                    found[fits] = mask
            left = rest
        return found


class _File(BaseModel):
    format: Literal["everything-review"]
    version: Literal[1]
    images: list[ImageReview]


class Review:
    """A review of the images of one results folder.

    Args:
        name: What messages call it.
        images: What was said of each image.
        accepted_only: Keep only what was accepted, by itself or with its image, instead of all
            that was not rejected.

    Raises:
        InputError: An image, or a mask of one, is there twice.
    """

    def __init__(
        self, name: str, images: Iterable[ImageReview], accepted_only: bool = False
    ) -> None:
        self.name, self.accepted_only = name, accepted_only
        self.images: dict[str, ImageReview] = {}
        for image in images:
            if image.key in self.images:
                raise InputError(f"{name}: {printable(image.key)} is there twice: delete one")
            masks = [(mask.id, mask.crc32) for mask in image.masks]
            if len(set(masks)) < len(masks):
                where = printable(image.key)
                raise InputError(f"{name}: {where}: a mask is there twice: delete one")
            self.images[image.key] = image

    @staticmethod
    def read(path: Path, accepted_only: bool = False) -> Review:
        """Read the file that the report page saves.

        Raises:
            InputError: It cannot be read, or is not a review.
        """
        name = printable(path)
        try:
            file = _File.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({reason_of(error)})") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(
                f"{name}: not a review ({printable(where)}: {first['msg']}): save one from the "
                "page of `everything report`"
            ) from error
        return Review(name, file.images, accepted_only)

    @property
    def about(self) -> dict[str, str | bool]:
        """What tells it from other reviews, for recipes."""
        content = "".join(self.images[key].model_dump_json() for key in sorted(self.images))
        return {
            "name": self.name,
            "crc32": f"{zlib.crc32(content.encode()):08x}",
            "accepted_only": self.accepted_only,
        }

    def keeps(self, image: ImageReview | None, mask: MaskReview | None) -> bool:
        """Tell whether a mask is kept, by what was said of it and of its image, if anything."""
        mine, its = (None if one is None else one.verdict for one in (mask, image))
        if "rejected" in (mine, its):
            return False
        return not self.accepted_only or "accepted" in (mine, its)


@dataclass(frozen=True)
class ReviewFit:
    """How a review fits a results folder.

    Attributes:
        images: What was said of each image that is in the folder, as it was reviewed, by key.
        masks: Number of masks that were found.
        unknown_images: Number of images of the review that are not in the folder, or have another
            size or content there.
        unknown_masks: Number of masks of the review that are not in the folder, those of unknown
            images included.
        left_out: Keys of images that are left out: rejected ones and, if only what was accepted is
            kept, those without it.
        tags: The masks' tags, sorted.
    """

    images: dict[str, ImageReview]
    masks: int
    unknown_images: int
    unknown_masks: int
    left_out: frozenset[str]
    tags: tuple[str, ...]

    def message(self, name: str) -> str:
        """Return what of the review does not fit, as one line; "" if all of it fits."""
        counts = [(self.unknown_masks, "mask"), (self.unknown_images, "image")]
        parts = [f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts if n]
        return f"{name}: not in these labels, ignored: {', '.join(parts)}" if parts else ""


def fingerprint(code: Rle) -> str:
    """Return the CRC-32 of a mask's size and run-length code, 8 hexadecimal digits."""
    height, width = map(int, code["size"])
    return f"{zlib.crc32(f'{height} {width} '.encode() + code['counts'].encode()):08x}"


def fit_review(
    review: Review,
    keys: Collection[str],
    read: Callable[[str], tuple[Size, list[Annotation], str | None] | None],
    where: str,
) -> ReviewFit:
    """Find the images and masks of a review in a results folder.

    Args:
        review: The review.
        keys: Keys of the folder's results.
        read: Returns size (H, W), all annotations and the image's `source_hash` (None if unknown)
            of a result; None if it cannot be read. Called for reviewed images only.
        where: The folder, for messages.

    Raises:
        InputError: Nothing of the review fits, or it leaves out every image.
    """
    by_name = {printable(key): key for key in keys}
    kept = set[str]() if review.accepted_only else set(keys)
    images: dict[str, ImageReview] = {}
    tags, known = set[str](), 0
    for image in review.images.values():
        key = by_name.get(image.key)
        if key is None:
            continue
        result = read(key)
        if result is None:
            kept.add(key)  # not left out silently
            continue
        size, annotations, content = result
        if size != (image.height, image.width):
            continue
        if None not in (content, image.source_hash) and content != image.source_hash:
            continue
        images[key] = image
        masks = list(image.matches(annotations).values())
        known += len(masks)
        tags.update(mask.tag for mask in masks if mask.tag and review.keeps(image, mask))
        if image.verdict == "rejected":
            kept.discard(key)
        elif image.verdict == "accepted" or any(mask.verdict == "accepted" for mask in masks):
            kept.add(key)
    every = sum(len(image.masks) for image in review.images.values())
    unknown = len(review.images) - len(images)
    if (review.images and not images) or (every and not known):
        what = f"{every:,} masks" if images else f"{unknown:,} images"
        raise InputError(
            f"{review.name}: none of its {what} is in {where}: give the review of these labels"
        )
    if not kept:
        raise InputError(f"{review.name}: leaves no image of {where}: review more, or drop it")
    left_out = frozenset(keys) - kept
    return ReviewFit(images, known, unknown, every - known, left_out, tuple(sorted(tags)))
