"""Labels: a results folder as Python sees it, one image's segments at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from everything.io.results.original_image import original_image
from everything.io.results.reader import Result, Results
from everything.io.storage.locations import Location
from everything.jobs.summary import Summary
from everything.masks.segments import Segments


class Labels:
    """The results in a folder or bucket: the segments of each image.

    Iterating gives the segments of every image in turn, `labels["cat.jpg"]` those of one. They are
    read when they are asked for, and an image's pixels when they are drawn. A `Labels` can be given
    wherever a results folder can.

    Args:
        root: The folder or bucket.
        images: The folder of the images, if they have moved.
        summary: What the job that wrote them did.

    Raises:
        InputError: There are no results.

    Attributes:
        summary: Counts and seconds of the job if `label` returned this, otherwise None.

    Example:
        >>> labels = read_labels("labels")
        >>> len(labels), labels.names
        (2, ['chelsea.png', 'coffee.png'])
        >>> labels["coffee.png"].plot().size
        (128, 85)
        >>> [segments.size for segments in labels]
        [(85, 128), (85, 128)]
    """

    def __init__(
        self, root: Location, images: Location | None = None, summary: Summary | None = None
    ) -> None:
        self._root, self._results = root, Results(root, images)
        self.summary = summary

    def __fspath__(self) -> str:
        return str(self._root)

    def __repr__(self) -> str:
        return f"Labels({str(self._root)!r}, {len(self)} images)"

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Segments]:
        return (self[name] for name in self._results.files)

    def __contains__(self, name: object) -> bool:
        return name in self._results.files

    def __getitem__(self, name: str) -> Segments:
        """Return the segments of an image.

        Raises:
            KeyError: There is no result of this name.
            InputError: The file is not in SA-1B's format.
        """
        return self._segments(name, self._results.read(name))

    @property
    def names(self) -> list[str]:
        """The name of each image that has a result."""
        return list(self._results.files)

    @property
    def failures(self) -> dict[str, str]:
        """The error of each image that failed, by name."""
        return self._results.failures

    def records(self) -> Iterator[Result]:
        """Yield each image's annotations as written: SA-1B's records, with timing and recipe."""
        return iter(self._results)

    def _segments(self, key: str, result: Result) -> Segments:
        read = partial(original_image, self._results, key, result)
        return Segments.from_sa1b(result.annotations, result.size, read, result.name)
