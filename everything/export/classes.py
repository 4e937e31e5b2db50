"""The classes of an export: those of the imported annotations, or `object` alone."""

from __future__ import annotations

from collections.abc import Iterable

from everything.core.sa1b import Annotation
from everything.io.results.categories import Category

CLASS = "object"  # of masks without a class


class Classes:
    """The classes of an export; those that only annotations name are added as they appear.

    Args:
        known: The classes of the results folder, sorted by id.

    Attributes:
        known: Whether there are any of the results folder.
    """

    def __init__(self, known: Iterable[Category] = ()) -> None:
        self._by_name = {category.name: category for category in known}
        self.known = bool(self._by_name)
        self._rows = {name: row for row, name in enumerate(self._by_name)}

    def of(self, annotation: Annotation) -> Category:
        """Return the class of a mask."""
        name = str(annotation.get("category", CLASS))
        if name not in self._by_name:
            number = max((one.id for one in self._by_name.values()), default=0) + 1
            self._rows[name] = len(self._rows)
            self._by_name[name] = Category(number, name)
        return self._by_name[name]

    def row(self, annotation: Annotation) -> int:
        """Return the number of a mask's class, counted from 0, which never changes."""
        return self._rows[self.of(annotation).name]

    def all(self) -> list[Category]:
        """Return all classes in the order of their numbers; `object` if there are none."""
        return list(self._by_name.values()) or [self.of({})]
