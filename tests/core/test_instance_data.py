from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from everything.core.instance_data import InstanceData


@dataclass(frozen=True)
class Inner(InstanceData):
    value: Tensor


@dataclass(frozen=True)
class Pair(InstanceData):
    numbers: Tensor
    names: list[str]
    inner: Inner
    frame: str
    shared: ClassVar[frozenset[str]] = frozenset({"frame"})

    def __post_init__(self) -> None:
        self._check_lengths()


def pair(n: int) -> Pair:
    return Pair(torch.arange(n), [str(i) for i in range(n)], Inner(torch.arange(n) * 10), "f")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (torch.tensor([3, 0, 0]), [3, 0, 0]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        (torch.zeros(0, dtype=torch.int64), []),
    ],
)
def test_index_picks_the_same_rows_of_every_field(index: slice | Tensor, expected: list[int]):
    picked = pair(4)[index]
    assert picked.numbers.tolist() == expected
    assert picked.names == [str(i) for i in expected]
    assert picked.inner.value.tolist() == [10 * i for i in expected]
    assert picked.frame == "f"
    assert len(picked) == len(expected)


def test_cat_joins_rows_in_order_and_keeps_shared_fields():
    joined = Pair.cat([pair(2), pair(0), pair(1)])
    assert joined.numbers.tolist() == [0, 1, 0]
    assert joined.names == ["0", "1", "0"]
    assert joined.inner.value.tolist() == [0, 10, 0]


def test_cat_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Pair.cat([])


def test_rows_that_differ_in_number_are_refused():
    with pytest.raises(ValueError, match="differ in number"):
        Pair(torch.arange(2), ["a"], Inner(torch.arange(2)), "f")
