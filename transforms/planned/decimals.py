"""Decimal numbers to doubles, the nearest one always, as Python's `float` gives it.

Few digits and a small power of ten need one multiplication or division, which rounds once (Clinger, 1990). Others need
128 bits of the power of five (Lemire, "Number parsing at a gigabyte per second", arXiv 2101.11408; that these bits are
enough: Mushtak and Lemire, arXiv 2212.06644).
"""
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel

Array = npt.NDArray[Any]

MOST_DIGITS = 19  # that 64 bits hold
_MOST_POWER = 64  # of ten, up and down: far from where doubles end
_FEW_BITS = 2**53
_EXACT_POWER = 22


def _power_of_five(power: int) -> int:
    """5 ** power times a power of two as an integer of 128 bits: cut off, or rounded up for negative powers."""
    if power >= 0:
        found = 5**power
        return found << (128 - found.bit_length()) if found < 1 << 128 else found >> (found.bit_length() - 128)
    five = 5**-power
    bits = (five - 1).bit_length()
    found = (1 << (bits + 127 if power >= -27 else 2 * bits + 128)) // five + 1
    return found >> max(0, found.bit_length() - 128)


_FIVES = [_power_of_five(power) for power in range(-_MOST_POWER, _MOST_POWER + 1)]
_FIVES_HIGH = np.array([five >> 64 for five in _FIVES], np.uint64)
_FIVES_LOW = np.array([five & (2**64 - 1) for five in _FIVES], np.uint64)
_TENS = np.array([10.0**power for power in range(_EXACT_POWER + 1)])
_LEAST_TWO = -400
_TWOS = np.array([2.0**power for power in range(_LEAST_TWO, 400)])


@kernel
def _product(a, b):  # type: ignore[no-untyped-def]
    """The 128 bits of a product of 64-bit numbers, (high, low)."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a_high, a_low, b_high, b_low = a >> half, a & mask, b >> half, b & mask
    low = a_low * b_low
    cross = a_high * b_low + (low >> half)
    other = a_low * b_high + (cross & mask)
    return a_high * b_high + (cross >> half) + (other >> half), a * b


@kernel
def _leading_zeros(number):  # type: ignore[no-untyped-def]
    found = 0
    for step in (32, 16, 8, 4, 2, 1):
        if number >> np.uint64(64 - step) == np.uint64(0):
            number <<= np.uint64(step)
            found += step
    return found


@kernel
def nearest(digits, power):  # type: ignore[no-untyped-def]
    """The double nearest to digits * 10 ** power; NaN where it is not told here.

    Args:
      digits: uint64.
      power: int64.
    """
    if digits == np.uint64(0):
        return 0.0
    if digits < np.uint64(_FEW_BITS) and -_EXACT_POWER <= power <= _EXACT_POWER:
        return np.float64(digits) * _TENS[power] if power >= 0 else np.float64(digits) / _TENS[-power]
    if power < -_MOST_POWER or power > _MOST_POWER:
        return np.nan
    zeros = _leading_zeros(digits)
    digits <<= np.uint64(zeros)
    high, low = _product(digits, _FIVES_HIGH[power + _MOST_POWER])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):  # what was cut off of the power may carry up to the bits needed
        more, _ = _product(digits, _FIVES_LOW[power + _MOST_POWER])
        low += more
        if more > low:
            high += np.uint64(1)
    upper = high >> np.uint64(63)
    cut = upper + np.uint64(9)
    found = high >> cut  # 54 bits: one more than a double has
    if low <= np.uint64(1) and -4 <= power <= 23 and found & np.uint64(3) == np.uint64(1) and found << cut == high:
        found &= ~np.uint64(1)  # halfway between two: the even one
    found = (found + (found & np.uint64(1))) >> np.uint64(1)
    two = ((217706 * power) >> 16) + 63 + np.int64(upper) - zeros - 52
    return np.float64(found) * _TWOS[two - _LEAST_TWO]
