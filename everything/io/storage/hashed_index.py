"""Integers by name for millions of names, in little memory."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_KEY = 16


def hashed(names: Iterable[str]) -> NDArray[np.bytes_]:
    """Return the hashes of names under which a HashedIndex has them, bytes (N,)."""
    return np.frombuffer(bytearray().join(map(_key, names)), f"S{_KEY}")


def repeated(names: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate that tells whether a name occurs more than once; 16 bytes per name."""
    keys = np.sort(hashed(names))
    found = set(keys[1:][keys[1:] == keys[:-1]].tolist())
    return lambda name: bool(found) and _key(name) in found


class HashedIndex:
    """A read-only table of integers by name, in 16 + 8 x `width` bytes per name.

    Names are kept as 127 bits of their hash: two of 10^9 names collide with probability 10^-21.

    Args:
        rows: Names with their `width` int64 values; the last row of a repeated name counts.
        width: The number of values per name.
    """

    def __init__(self, rows: Iterable[tuple[str, Sequence[int]]], width: int) -> None:
        keys, values = bytearray(), array("q")
        for name, numbers in rows:
            keys += _key(name)
            values.extend(numbers)
        unsorted = np.frombuffer(keys, f"S{_KEY}")
        order = np.argsort(unsorted, kind="stable")
        self._keys = unsorted[order]
        self._values = np.frombuffer(values, np.int64).reshape(-1, width)[order]

    def get(self, name: str) -> list[int] | None:
        """Return the values of a name, or None if it is unknown."""
        key = np.bytes_(_key(name))
        place = int(np.searchsorted(self._keys, key, "right")) - 1
        if place < 0 or self._keys[place] != key:
            return None
        numbers: list[int] = self._values[place].tolist()
        return numbers

    def count(self, keys: NDArray[np.bytes_]) -> int:
        """Return how many of these names (`hashed`) are known."""
        return int(np.isin(keys, self._keys).sum())

    def __len__(self) -> int:
        return len(self._keys)


def _key(name: str) -> bytes:
    digest = hashlib.blake2b(os.fsencode(name), digest_size=_KEY).digest()
    return digest[:-1] + bytes([digest[-1] | 1])  # numpy strips trailing zeros as padding
