"""Folders in SA-1B's format: a JSON file per image, beside the images or apart from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from everything.errors import InputError
from everything.io.datasets.annotations import AnnotatedImage, read_document
from everything.io.datasets.reading_tally import ReadingTally
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
            done += (self.folder / file).stat().st_size
            try:
                result = read_document(results.document(key), key, self.tally)
            except InputError as error:
                self.tally.refuse_image(file, str(error))
                continue
            name = _name(key, result.name)
            source = results.image(key, name) or results.image(key, result.name)
            self.tally.images_not_found += source is None
            home = self.images
            if source is not None:
                name, home = source.name, Path(source.folder)
                # Beside a JSON file in a folder of this one: the name says which.
                if home.is_relative_to(self.folder) and home != self.folder:
                    name = (home / name).relative_to(self.folder).as_posix()
                    home = self.folder
            yield AnnotatedImage(name, result.size, result.annotations, home)
            self.on_progress(done)


def _name(key: str, file_name: str) -> str:
    """The name of an image: SA-1B's file names have no folders, their JSON files may."""
    folder = PurePosixPath(key).parent
    own = PurePosixPath(file_name)
    return file_name if own.parts[:-1] or not folder.parts else (folder / own).as_posix()
