"""Types of the module in module.cpp, which defines the order of the arrays."""

from collections.abc import Sequence
from typing import Any

INSTRUCTIONS: tuple[str, ...]
TILE: int
INTERFACE: int

Arrays = Sequence[Any]
Shape = tuple[int, ...]

def take(instructions: str) -> None: ...
def first_pass(shape: Shape, arrays: Arrays) -> None: ...
def second_pass(shape: Shape, eps: float, arrays: Arrays) -> None: ...
def draw(
    shape: Shape, sizes: Shape, flags: tuple[bool, bool], eps: float, arrays: Arrays
) -> None: ...
def look(
    masks: int,
    rows: Shape,
    columns: Shape,
    place: Shape,
    cuts: tuple[float, float, float],
    convex: bool,
    arrays: Arrays,
) -> list[bytes]: ...
def regions(
    regions: int, size: Shape, reach: int, slope: float, far: float, arrays: Arrays
) -> None: ...
def strings(masks: int, edges: int, pixels: int, arrays: Arrays) -> list[str]: ...
