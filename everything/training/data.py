"""Images to train on: any ground truth that `evaluate` reads, and this program's own results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from everything.io.datasets.ground_truth import is_sa1b
from everything.io.datasets.image_masks import images_with_masks
from everything.io.datasets.label_maps import (
    LabelledImage,
    is_complete,
    labels_from_masks,
    read_labelled_images,
)


def complete_images(
    paths: Iterable[Path],
    split: str | None,
    images: Path | None,
    on_message: Callable[[str], None],
) -> list[LabelledImage]:
    """Return the images that are annotated all over; how many are not is said.

    Args:
        paths: Each as `read_training_images` takes it, as are split and images.
        split: Of data packs.
        images: The folder of the images.
        on_message: Where to.

    Raises:
        InputError: As `read_training_images`.
    """
    found = [one for path in paths for one in read_training_images(path, split, images)]
    complete = [one for one in found if one.complete]
    if found and not complete:
        on_message("images are annotated in part only: what is not annotated counts as unknown")
        return found
    if len(complete) < len(found):
        on_message(f"{len(found) - len(complete)} images are annotated in part only and left out")
    return complete


def read_training_images(
    path: Path, split: str | None = None, images: Path | None = None
) -> Iterator[LabelledImage]:
    """Yield the images of ground truth or of results of `label` and `import`.

    Where masks overlap, the smaller one is on top. Images that are missing, cannot be read or are
    not of the size that was annotated are left out and counted in the log.

    Args:
        path: Ground truth as `read_labelled_images` takes it, or a results folder.
        split: The part of BSDS500 or of a data pack to read; None for all of it.
        images: The folder of the images of a COCO file or of results, if they are not beside it.

    Raises:
        InputError: If no format fits, or none of the images can be used.
    """
    if not (path.is_file() or (path / "annotations").is_dir() or is_sa1b(path)):
        yield from read_labelled_images(path, split)
        return
    found = images_with_masks(path, split, min_area=1, images=images)
    for number, (pixels, masks) in enumerate(found):
        labels = labels_from_masks(masks, (pixels.shape[0], pixels.shape[1]))
        # Where no mask is there may still be an object, unless hardly anything is left.
        yield LabelledImage(f"{path.name} {number}", pixels, labels, is_complete(labels))
