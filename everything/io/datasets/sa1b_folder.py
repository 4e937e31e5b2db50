"""Folders in SA-1B's format: a JSON file per image, beside the images or apart from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from everything.errors import InputError
from everything.io.datasets.annotations import AnnotatedImage, read_document
from everything.io.datasets.image_names import image_name, is_of_macos, last_parts
from everything.io.datasets.reading_tally import ReadingTally
from everything.io.images.sources import Source
from everything.io.results.reader import Results


@dataclass
class Sa1bFolder:
    """Reads the images of a folder.

    Attributes:
        folder: The folder with the JSON files, at any depth.
        images: The folder of the images, if they are not beside their annotations.
        tally: Counts what is left out.
        on_progress: Called with the number of bytes of the JSON files that were read.
    """

    folder: Path
    images: Path | None = None
    tally: ReadingTally = field(default_factory=ReadingTally)
    on_progress: Callable[[int], None] = lambda done: None

    def __iter__(self) -> Iterator[AnnotatedImage]:
        """Yield the images, one at a time."""
        results, done = Results(self.folder, self.images), 0
        for key, file in results.files.items():
            if is_of_macos(file):
                continue
            done += (self.folder / file).stat().st_size
            try:
                result = read_document(results.document(key), key, self.tally)
            except InputError as error:
                self.tally.refuse_image(file, str(error))
                continue
            name = image_name(result.name)
            if "/" not in name:  # SA-1B's file names have no folders, their JSON files may
                name = _beside(key, name)
            source, home = find_image(results, key, result.name), self.images
            self.tally.images_not_found += source is None
            if source is not None:
                whole = {result.name, image_name(result.name), name}
                self.tally.guessed_images += source.name not in whole
                name, home = source.name, Path(source.folder)
                # Beside a JSON file in a folder of this one: the name says which.
                if home.is_relative_to(self.folder) and home != self.folder:
                    name = (home / name).relative_to(self.folder).as_posix()
                    home = self.folder
            yield AnnotatedImage(name, result.size, result.annotations, home)
            self.on_progress(done)


def find_image(results: Results, key: str, file_name: str) -> Source | None:
    """Return where the image of an annotation file is: by its whole name, else by its last parts.

    Args:
        results: The folder of the annotation files.
        key: The file's key there; the image may be beside it or in a folder of the same name.
        file_name: What the file calls the image.
    """
    for name in dict.fromkeys([file_name, *last_parts(image_name(file_name))]):
        for place in (_beside(key, name), name):
            if (source := results.image(key, place)) is not None:
                return source
    return None


def _beside(key: str, name: str) -> str:
    return (PurePosixPath(key).parent / name).as_posix()
