"""InstanceData: base of all records that are indexed like an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor

from everything.core.device import sent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Index = slice | Tensor


class InstanceData:
    """A frozen dataclass whose fields hold one row per item, except those in `shared`.

    A row field is a Tensor, a list or another InstanceData. `shared` names the fields that describe
    all rows (for example a frame); indexing does not change them.
    """

    shared: ClassVar[frozenset[str]] = frozenset()

    def __len__(self) -> int:
        return len(getattr(self, self._row_fields()[0]))

    def __getitem__(self, index: Index) -> Self:
        """Return the rows that a slice, a boolean mask or an int64 index selects, in its order."""
        return self._with({name: _pick(getattr(self, name), index) for name in self._row_fields()})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts in order; shared fields are those of the first part.

        Raises:
            ValueError: There are no parts, so that shared fields are unknown.
        """
        if not parts:
            raise ValueError(f"{cls.__name__}.cat needs at least one part")
        first = parts[0]
        if len(parts) == 1:
            return first
        columns = {n: [getattr(part, n) for part in parts] for n in first._row_fields()}
        return first._with({name: _join(column) for name, column in columns.items()})

    @classmethod
    @cache
    def _row_fields(cls) -> tuple[str, ...]:
        record = cast("DataclassInstance", cls)
        return tuple(f.name for f in fields(record) if f.name not in cls.shared)

    def _with(self, columns: dict[str, Any]) -> Self:
        return replace(self, **columns)  # type: ignore[type-var]

    def _check_lengths(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in self._row_fields()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{type(self).__name__} rows differ in number: {lengths}")


def _pick(column: Any, index: Index) -> Any:
    if isinstance(index, slice) or not isinstance(column, list | Tensor):
        return column[index]
    if index.dtype == torch.bool:
        index = index.nonzero().flatten()
    if isinstance(column, Tensor):
        return column[sent(index, column.device)]
    return [column[i] for i in index.tolist()]


def _join(columns: list[Any]) -> Any:
    if isinstance(columns[0], Tensor):
        return torch.cat(columns)
    if isinstance(columns[0], list):
        return [item for column in columns for item in column]
    return type(columns[0]).cat(columns)
