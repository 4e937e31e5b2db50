"""Values of any number type as 8 bits, with a stretch where they use little of their range.

The range that becomes 0 to 255:

- Unsigned integers of up to 16 bits have a full range, and floats that all lie within [0, 1] have
  that one. It is used, unless the values take less than a quarter of it (satellites, thermal
  cameras, 12 bits stored as 16).
- All others, and values that take less than a quarter, are stretched: from the 0.5th to the 99.5th
  percentile of the valid values, or from the lowest and to the highest where these lie at most a
  quarter of that range further out. All bands share one range, so that colours keep their balance.
- 0 (a border) and, of unsigned integers, the highest value (saturated pixels) do not count for the
  range where they lie further from all other values than these lie from each other.

Not valid, and black: NaN, infinities (plus infinity is white), the no-data value of the file,
floats beyond 1e30, and usual no-data values (such as -9999 and the ends of a type) that lie further
from all other values than these lie from each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_PERCENTILES = (0.5, 99.5)
_SMALL_PART = 1 / 4  # of the full range
_OUTLIERS = 1 / 4  # of the range between the percentiles
_NO_MEASUREMENT = 1e30  # floats beyond: as -3.4e38, which formats of grids use
_USUAL_NO_DATA = (-999.0, -9999.0, -10000.0, -99999.0, -32767.0, -32768.0, 1e20)
_SAMPLE = 2**24  # values from which the range is computed
_BLOCK = 2**22  # values that are converted at once
_DARK = 1 / 16  # of the full range

Values = NDArray[np.generic]


@dataclass(frozen=True)
class Scale:
    """The range of values that becomes 0 to 255.

    Attributes:
        low: Becomes 0.
        high: Becomes 255.
        bits: If the full range of unsigned integers is used: their bits, which are shifted, so that
            every value of 8 bits stands for equally many.
        no_data: Values that are not valid, besides those that no number type takes for numbers.
        is_inverted: Whether the lowest value is white.
    """

    low: float
    high: float
    bits: int | None = None
    no_data: tuple[float, ...] = ()
    is_inverted: bool = False


def to_8_bit(
    values: Values,
    bits: int,
    notes: list[str],
    *,
    stretch: bool = True,
    no_data: float | None = None,
    is_inverted: bool = False,
    visible: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return values as 8 bits; see the module for the rule.

    Args:
        values: Bands of an image, (H, W) or (H, W, bands), of any number type.
        bits: Of unsigned integers: how many are used. 12 bits may be stored as 16.
        notes: Gets what was guessed, such as the range.
        stretch: Whether to stretch values that have a full range. Others are stretched from the
            lowest to the highest without it.
        no_data: The value that the file declares as no data.
        is_inverted: Whether the lowest value is white (PhotometricInterpretation 0).
        visible: (H, W), where the image is not transparent; the range is that of these pixels.

    Returns:
        Of the shape of `values`.
    """
    if values.dtype.kind == "c":  # radar
        notes.append("complex values, their magnitudes are shown")
        values = np.abs(values)
    if values.dtype == np.bool_:
        return np.where(values != is_inverted, np.uint8(255), np.uint8(0))
    seen = values if visible is None or not visible.any() else values[visible]
    sample = _sample(seen)
    declared = () if no_data is None else (_as_stored(no_data, values.dtype),)
    sample = sample[is_valid(sample, declared)]
    guessed = _usual_no_data(sample)  # also beside a declared one, which may be a wrong one
    sample = sample[is_valid(sample, guessed)]
    scale = _scale(sample, values.dtype, bits, notes, stretch)
    scale = replace(scale, no_data=(*declared, *guessed), is_inverted=is_inverted)
    pixels, count = apply(values, scale)
    if guessed:
        named = ", ".join(f"{value:g}" for value in guessed)
        notes.append(f"{named} is taken for no data")
    if count:
        notes.append(f"{count:,} of {values.size:,} values are no data, shown black")
    return pixels


def apply(values: Values, scale: Scale) -> tuple[NDArray[np.uint8], int]:
    """Return values as 8 bits by a given range, and how many of them are not valid."""
    pixels, count = np.empty(values.shape, np.uint8), 0
    flat, place = pixels.reshape(-1), 0
    for block in _blocks(values):
        converted = flat[place : place + block.size]
        converted[:] = _converted(block, scale)
        if block.dtype.kind == "f" or scale.no_data:
            invalid = ~is_valid(block, scale.no_data)
            count += int(invalid.sum())
            converted[invalid] = 255 * (np.asarray(block)[invalid] == np.inf)
        place += block.size
    return pixels, count


def is_valid(values: Values, no_data: tuple[float, ...]) -> NDArray[np.bool_]:
    """Tell which values are measurements."""
    if values.dtype.kind == "f":
        wide = values.astype(np.float32) if values.dtype.itemsize == 2 else values
        valid: NDArray[np.bool_] = np.abs(wide) < _NO_MEASUREMENT  # False of NaN
    else:
        valid = np.ones(values.shape, np.bool_)
    for value in no_data:
        valid &= values != value
    return valid


def _converted(block: Values, scale: Scale) -> NDArray[np.uint8]:
    if scale.bits is not None:
        pixels = _by_full_range(block, scale.bits)
    else:
        span = max(scale.high - scale.low, np.finfo(np.float64).tiny)
        with np.errstate(invalid="ignore", over="ignore"):
            unit = (block.astype(np.float64) - scale.low) / span
        unit = np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0)
        pixels = np.round(255 * np.clip(unit, 0, 1)).astype(np.uint8)
    if scale.is_inverted:
        pixels = np.subtract(255, pixels, dtype=np.uint8)
    return pixels


def _by_full_range(values: Values, bits: int) -> NDArray[np.uint8]:
    if bits < 8:
        scaled: NDArray[np.float64] = values.astype(np.float64) * (255 / (2**bits - 1))
        return scaled.astype(np.uint8)
    high_byte: NDArray[np.uint16] = np.right_shift(values.astype(np.uint16), bits - 8)
    return high_byte.astype(np.uint8)


def _scale(
    sample: Values, dtype: np.dtype[np.generic], bits: int, notes: list[str], stretch: bool
) -> Scale:
    """Return the range for values of which `sample`, all of them valid, was taken."""
    numbers = sample.astype(np.float64)
    lowest, highest = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    full = _full_range(dtype, bits, lowest, highest)
    if stretch:
        is_short = dtype.kind == "u" and dtype.itemsize <= 2
        numbers = _between_ends(numbers, (0.0, full) if is_short and full else (0.0,))
    low, high = _robust(numbers) if numbers.size and stretch else (lowest, highest)
    if full is not None:
        is_used = high - low >= _SMALL_PART * full or high == low
        if not stretch or is_used:
            if dtype.kind == "u" and 0 < highest < _DARK * 2**bits:
                notes.append(f"very dark: its brightest value is {highest:g} of {full:g}")
            return Scale(0.0, full, bits if dtype.kind == "u" else None)
    clipped = ""
    if (low, high) != (lowest, highest):
        clipped = f" (lowest {lowest:g}, highest {highest:g})"
    notes.append(f"values from {low:g} to {high:g} stretched to 8 bits{clipped}")
    return Scale(low, high)


def _full_range(
    dtype: np.dtype[np.generic], bits: int, lowest: float, highest: float
) -> float | None:
    """The highest value of the full range, which begins at 0; None if there is none."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return float(2**bits - 1)
    if dtype.kind == "f" and lowest >= 0 and highest <= 1:
        return 1.0
    return None


def _between_ends(numbers: NDArray[np.float64], ends: tuple[float, ...]) -> NDArray[np.float64]:
    """The values without those of `ends` that lie apart."""
    for end in ends:
        others = numbers[numbers != end]
        if 0 < others.size < numbers.size and _is_apart(end, others):
            numbers = others
    return numbers


def _is_apart(value: float, others: NDArray[np.float64]) -> bool:
    """Tell whether a value lies further from all others than these lie from each other."""
    span, gap = np.ptp(others), np.abs(others - value).min()
    return bool(0 < span < gap)


def _robust(numbers: NDArray[np.float64]) -> tuple[float, float]:
    """The range of the module's rule."""
    lowest, highest = float(numbers.min()), float(numbers.max())
    low, high = (float(end) for end in np.percentile(numbers, _PERCENTILES))
    margin = _OUTLIERS * (high - low)
    if low == high:  # nearly all pixels have one value, and the others are what is to be seen
        return lowest, highest
    return (
        lowest if low - lowest <= margin else low,
        highest if highest - high <= margin else high,
    )


def _usual_no_data(sample: Values) -> tuple[float, ...]:
    """Values that usually stand for no data, where they lie apart from all others."""
    kind = sample.dtype.kind
    if kind not in "if" and sample.dtype.itemsize <= 2:
        return ()  # every value of these is a usual one
    usual = {_as_stored(value, sample.dtype) for value in _USUAL_NO_DATA}
    if kind in "iu":
        ends = np.iinfo(sample.dtype.name)
        usual |= {float(ends.min), float(ends.max)} - {0.0}
    numbers = sample[is_valid(sample, ())]
    found: list[float] = []
    for end in (np.min, np.max):
        if not numbers.size or float(end(numbers)) not in usual:
            continue
        value = end(numbers)
        others = numbers[numbers != value].astype(np.float64)
        if not others.size:
            continue
        if _is_apart(float(value), others):
            found.append(float(value))
            numbers = numbers[numbers != value]
    return tuple(found)


def _as_stored(value: float, dtype: np.dtype[np.generic]) -> float:
    """The value that a no-data value written as text has in the file's number type."""
    if dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        return float(np.asarray(value).astype(dtype))


def _sample(values: Values) -> Values:
    """At most so many values, evenly spread, with an odd step so as not to follow columns."""
    flat = values.reshape(-1)
    step = -(-flat.size // _SAMPLE)
    return flat[:: step | 1 if step > 1 else 1]


def _blocks(values: Values) -> Iterator[Values]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]
