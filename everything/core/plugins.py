"""Registries that other installed packages add to, by entry points.

A package that declares

    [project.entry-points."everything.samplers"]
    my-sampler = "my_package:RECORD"

adds `my-sampler` to the samplers. An entry point is imported when its name is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from everything.errors import ConfigError, reason_of

_log = logging.getLogger(__name__)
_Record = TypeVar("_Record")


class Registry(MutableMapping[str, _Record]):
    """Records by name: the built-in ones in their order, then those of plugins.

    Looking up a name raises ConfigError, which names the distribution, if the entry point behind
    it cannot be used. Iterating leaves such names out. Each problem is logged once, as a warning.

    Args:
        builtin: The records of this program.
        group: Group of the entry points, as in "everything.samplers".
        kind: Class that the object of an entry point must be an instance of.
    """

    def __init__(self, builtin: Mapping[str, _Record], group: str, kind: type[_Record]) -> None:
        self.builtin = dict(builtin)
        self.group = group
        self._kind = kind
        self._loaded: dict[str, _Record | ConfigError] = {}

    def __getitem__(self, name: str) -> _Record:
        found = self._entries.get(name)
        if name in self.builtin:
            return self.builtin[name]
        if found is None:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = self._load(name, found)
        record = self._loaded[name]
        if isinstance(record, ConfigError):
            raise record
        return record

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.builtin

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        for name in self._entries:
            try:
                self[name]
            except ConfigError:
                continue
            yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, name: str, record: _Record) -> None:
        self.builtin[name] = record

    def __delitem__(self, name: str) -> None:
        del self.builtin[name]

    @cached_property
    def _entries(self) -> dict[str, tuple[EntryPoint, ...]]:
        """The plugins' entry points by name; those of built-in names are left out."""
        found: dict[str, tuple[EntryPoint, ...]] = {}
        for entry in entry_points(group=self.group):
            if entry.name in self.builtin:
                _log.warning(
                    "%s: the built-in %s is used: rename the entry point", _of(entry), entry.name
                )
            else:
                found[entry.name] = (*found.get(entry.name, ()), entry)
        return found

    def _load(self, name: str, entries: tuple[EntryPoint, ...]) -> _Record | ConfigError:
        try:
            return self._only(name, entries)
        except ConfigError as error:
            _log.warning("%s", error)
            return error

    def _only(self, name: str, entries: tuple[EntryPoint, ...]) -> _Record:
        first, *others = entries
        if others:
            packages = ", ".join(sorted(_distribution(entry) for entry in entries))
            raise ConfigError(
                f"{self.group}: {name!r} is declared by several packages ({packages}): "
                f"uninstall all but one"
            )
        try:
            record = first.load()
        except Exception as error:  # an import runs the package's own code
            raise ConfigError(
                f"{_of(first)}: cannot be imported ({reason_of(error)}): update or uninstall it"
            ) from error
        if not isinstance(record, self._kind):
            raise ConfigError(
                f"{_of(first)}: is of type {type(record).__name__}, must be a "
                f"{self._kind.__name__}: update or uninstall it"
            )
        return record


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "unknown distribution"


def _of(entry: EntryPoint) -> str:
    return f"{_distribution(entry)}: entry point {entry.name} of {entry.group} ({entry.value})"
