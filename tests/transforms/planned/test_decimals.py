"""Decimal numbers to doubles: the same as Python's `float`, bit by bit, or not told."""
import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_coresets.transforms.planned.decimals import nearest


def told(digits, power):
    return nearest(np.uint64(digits), np.int64(power))


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 10**19 - 1) | st.integers(0, 2**54), st.integers(-80, 80))
@example(2**53 + 1, 0)
@example(9007199254740993, 0)
@example(10**19 - 1, 64)
@example(1, 65)
def test_what_is_told_is_the_nearest_double(digits, power):
    found = told(digits, power)
    if math.isnan(found):
        assert abs(power) > 64
    else:
        assert found.hex() == float(f"{digits}e{power}").hex()


@settings(max_examples=1000, deadline=None)
@given(st.integers(2**52, 2**53 - 1), st.integers(-30, 10), st.sampled_from([-1, 0, 1]))
def test_what_lies_halfway_between_two_doubles_goes_to_the_even_one(half, power, beside):
    number, ten = (2 * half + 1) * (2**power if power >= 0 else 5**-power), min(power, 0)
    while number % 10 == 0:
        number, ten = number // 10, ten + 1
    if number < 10**19:
        assert told(number + beside, ten).hex() == float(f"{number + beside}e{ten}").hex()


def test_one_thousand_doubles_come_back_from_their_shortest_text():
    doubles = np.random.default_rng(0).standard_normal(1000) * np.logspace(-12, 12, 1000)
    for double in np.abs(doubles).tolist():
        digits, _, power = f"{double:.16e}".partition("e")
        assert told(int(digits.replace(".", "")), int(power) - 16) == double
