"""Units that bring numbers near one: powers of four, so that nothing is rounded and roots of them are powers of two."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.points.magnitude import unit_of


@given(st.lists(st.floats(-1e300, 1e300).filter(lambda x: x == 0 or abs(x) > 1e-300), min_size=1).map(np.array))
def test_a_unit_loses_no_bit(values):
    unit = unit_of(values)
    mantissa, exponent = math.frexp(unit)
    assert (mantissa, exponent % 2) == (0.5, 1)
    if values.any():
        assert 0.25 <= np.abs(values / unit).max() < 4


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [np.inf], [np.nan]])
def test_what_has_no_size_has_unit_one(values):
    assert unit_of(np.array(values)) == 1.0
