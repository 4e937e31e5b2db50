from __future__ import annotations

import os

from everything.io.storage.hashed_index import HashedIndex, hashed, repeated


def test_numbers_by_name() -> None:
    names = [f"{n}.jpg" for n in range(1000)]
    numbers = HashedIndex(((name, (n, -n)) for n, name in enumerate(names)), 2)
    assert len(numbers) == 1000
    assert all(numbers.get(name) == [n, -n] for n, name in enumerate(names))
    assert numbers.get("1000.jpg") is None


def test_of_a_repeated_name_the_last_counts() -> None:
    assert HashedIndex([("a", (1,)), ("b", (2,)), ("a", (3,)), ("a", (4,))], 1).get("a") == [4]


def test_nothing_and_names_that_are_not_utf_8() -> None:
    assert HashedIndex([], 1).get("a") is None
    name = os.fsdecode(b"\xff.jpg")
    assert HashedIndex([(name, (7,))], 1).get(name) == [7]


def test_names_that_come_again() -> None:
    is_repeated = repeated(f"{n % 900}.jpg" for n in range(1000))
    assert [n for n in range(900) if is_repeated(f"{n}.jpg")] == list(range(100))
    assert not repeated(["a", "b"])("a")
    assert not repeated([])("a")


def test_known_names_are_counted() -> None:
    known = HashedIndex([("a", (1,)), ("b", (2,))], 1)
    assert known.count(hashed(["a", "c", "b", "d"])) == 2
    assert known.count(hashed([])) == 0


def test_no_hash_ends_in_a_zero_which_numpy_would_strip() -> None:
    names = [f"{n}" for n in range(2000)]  # some eight of their hashes would
    assert all(len(key) == 16 for key in hashed(names).tolist())
    assert len(set(hashed(names).tolist())) == 2000
